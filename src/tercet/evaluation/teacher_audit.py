"""The teacher audit of train.py --audit: minutes of work before hours of training."""

from __future__ import annotations

from dataclasses import replace

from tercet import retrieval
from tercet.core.processes import process
from tercet.core.schema import InputError, Qrels, Query
from tercet.data.judgements import read_judged
from tercet.data.targets import calibrate
from tercet.evaluation.audit import Audit, HeadRoom, audit, audit_lists, measure_head_room
from tercet.pipeline.pipeline import Pipeline

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
    return audit(
        recipe.teacher.name,
        _head_room(pipeline),
        audit_lists(lists, texts, calibrate(lists["teacher"], lists["student"]).spread),
    )


def _head_room(pipeline: Pipeline) -> HeadRoom | None:
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
    return measure_head_room(
        pipeline.components.teacher(),
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
