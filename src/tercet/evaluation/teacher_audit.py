"""The teacher audit of train.py --audit: minutes of work before hours of training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tercet import data, retrieval
from tercet.config.recipe import Recipe
from tercet.config.teacher import ScorerSettings
from tercet.core.mapped import Vectors
from tercet.core.processes import process
from tercet.core.schema import InputError, Qrels, Query, Teacher
from tercet.data.judgements import read_judged
from tercet.data.mixture import scorers_of, unchosen
from tercet.data.targets import calibrate
from tercet.evaluation.audit import (
    Audit,
    HeadRoom,
    ListStatistics,
    OneOfSeveral,
    audit,
    audit_lists,
    measure_head_room,
)
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.steps.negatives import OtherEmbeddings

_QUERIES = 200  # synthetic queries to audit
_DEPTH = 100
#: Metrics that reranking can improve at any depth, unlike recall@100.
_ORDERED = ("ndcg", "map", "mrr")


def audit_teacher(pipeline: Pipeline) -> Audit:
    """Head-room on judged queries, if there are any, and statistics of a few synthetic ones.

    Raises InputError in a launch of several processes.
    """
    if process()[1] > 1:
        raise InputError("the audit runs in one process: tercet audit RECIPE")
    pipeline.run.settle()
    recipe = pipeline.recipe
    small = Pipeline(
        replace(
            recipe,
            runs_dir=str(recipe.folder),
            name="audit",
            queries=replace(recipe.queries, count=min(_QUERIES, recipe.queries.count or _QUERIES)),
        )
    )
    # The passages and their vectors are the run's own, which training reuses.
    small.reuse(pipeline, "corpus", "embeddings", "student")
    lists = small.triplets.dataset("lists")[:]
    texts = pipeline.passages.texts(passage for ids in lists["passages"] for passage in ids)
    measure, scorers = _head_room(pipeline), recipe.teacher.each
    statistics = _statistics(lists, texts)
    if len(scorers) == 1:
        (path,) = scorers
        room = measure(_scorer(pipeline, scorers[path])) if measure else None
        return audit(scorers[path].described, room, statistics)
    scale = _mixture(recipe, lists)
    alone, members = list[OneOfSeveral](), list[tuple[Teacher, float]]()
    for settings, part, weight, factor in zip(
        scorers.values(), scorers_of(lists), *scale.members, strict=True
    ):
        scorer = data.KnownScorer(_scorer(pipeline, settings))
        found = _statistics({**lists, "teacher": part}, texts)
        room = measure(scorer) if measure else None
        agreement = found.rank, found.not_first, found.correlation
        alone.append(OneOfSeveral(settings.short_name, weight, room, *agreement))
        members.append((scorer, weight * factor))
    model = data.DenseScorer(pipeline.starting_model, pipeline.passages, pipeline.vectors)
    mixture = data.MixedScorer("their mixture", [*members, (model, scale.student)])
    room = measure(mixture) if measure else None
    return audit(" + ".join(recipe.teacher.names), room, statistics, alone)


def _statistics(lists: Mapping[str, Sequence[Any]], texts: Mapping[str, str]) -> ListStatistics:
    """Those of the lists' teacher, on the student's scale."""
    return audit_lists(lists, texts, calibrate(lists["teacher"], lists["student"]).spread)


@dataclass(frozen=True)
class _Scale:
    """The student's weight in the targets, and the scorers' weights and factors."""

    student: float
    members: tuple[list[float], list[float]]


def _mixture(recipe: Recipe, lists: Mapping[str, Sequence[Any]]) -> _Scale:
    """The weights that are given, or those without a choice."""
    teacher, parts = recipe.teacher, scorers_of(lists)
    given = tuple(teacher.weights) if teacher.weights else None
    mixture = unchosen(len(parts), teacher.student_weight, given)
    method = recipe.triplets.calibration
    factors = [calibrate(part, lists["student"]).factor(method) for part in parts]
    weights = [(1 - mixture.student) * weight for weight in mixture.scorers]
    return _Scale(mixture.student, (weights, factors))


def _scorer(pipeline: Pipeline, settings: ScorerSettings) -> Teacher:
    """One of the recipe's scorers, over the run's passages."""

    def vectors() -> Vectors:
        encoder = pipeline.recipe.scorer_encoders[settings.short_name]
        made = pipeline.inputs("scores").make(OtherEmbeddings(encoder))
        return data.read_vectors(made, pipeline.passages)

    return pipeline.components.scorer(settings, pipeline.passages, vectors)


def _head_room(pipeline: Pipeline) -> Callable[[Teacher], HeadRoom] | None:
    """What measures a scorer's head-room on judged queries; None where none are judged."""
    queries, qrels, judgements = judged_to_audit(pipeline)
    if not qrels:
        return None
    index = retrieval.ExactIndex()
    index.build(pipeline.passages.ids, pipeline.vectors)
    student = retrieval.DenseRetriever(pipeline.starting_model, index)
    found = student.search([query.text for query in queries], retrieval.deeper(queries, _DEPTH))
    run = retrieval.measured(queries, found, _DEPTH)
    rankings = [run[query.id] for query in queries]
    texts = pipeline.passages.texts(passage for ranking in rankings for passage, _ in ranking)
    recipe, primary = pipeline.recipe, pipeline.recipe.evaluation.primary_metric
    return lambda teacher: measure_head_room(
        teacher,
        queries,
        qrels,
        run,
        texts,
        judgements,
        measure=primary if primary.startswith(_ORDERED) else "ndcg@10",
        resamples=recipe.evaluation.resamples,
        seed=recipe.seed,
    )


def judged_to_audit(pipeline: Pipeline) -> tuple[list[Query], Qrels, str]:
    """Judged queries for the audit, their judgements, and a description that names the split.

    The dev split; else queries of other splits that share no relevant passage with a test query;
    else the test split itself, with a warning in the description.
    """
    corpus, section = pipeline.corpus, pipeline.recipe.corpus
    evaluation = pipeline.recipe.evaluation

    def read(split: str) -> tuple[list[Query], Qrels]:
        judged = read_judged(
            corpus,
            split,
            leave_out=evaluation.leave_out,
            unanswerable=evaluation.unanswerable,
            refuse=False,
        ).by_passages(pipeline.passages)
        return judged.queries, judged.qrels

    splits = sorted(set(corpus.dataset("qrels")["split"][:]))
    test_queries, test = read(section.test_split)
    if section.dev_split in splits and section.dev_split != section.test_split:
        return *read(section.dev_split), f"split {section.dev_split!r}"
    known = {passage for grades in test.values() for passage, g in grades.items() if g > 0}
    for split in splits:
        if split == section.test_split:
            continue
        queries, qrels = read(split)
        apart = {
            query: grades
            for query, grades in qrels.items()
            if query not in test and not any(p in known for p, g in grades.items() if g > 0)
        }
        if apart:
            words = f"split {split!r}, less what shares a relevant passage with a test query"
            return [query for query in queries if query.id in apart], apart, words
    words = f"split {section.test_split!r} itself, for want of another: let it choose nothing else"
    return test_queries, test, words
