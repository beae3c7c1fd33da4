"""Runs and times every stage of a recipe on a small sample of its corpus.

Nothing is written. Models stay loaded as in a real run, so that the memory is comparable.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from datasets import Dataset

from tercet import data, modeling, retrieval
from tercet.config.recipe import Recipe, RetrieverSettings
from tercet.config.teacher import ScorerSettings
from tercet.core.console import console
from tercet.core.resources import Resources, measured
from tercet.core.schema import InputError, Passage, Retriever
from tercet.data import Passages
from tercet.data.queries import Part, deal, plan as passages_to_sample, seed_of_shard
from tercet.forecast.generation import WRITING, Written, write
from tercet.forecast.sampling import Draws, Lists
from tercet.forecast.source import READING, Reading, read_source
from tercet.forecast.throughput import (
    EMBEDDING,
    PAIRS,
    SCORING,
    TRAINING,
    Embedded,
    Found,
    Scored,
    embed,
    halfway,
    score,
    score_by_terms,
    score_by_vectors,
    search,
    time_adapter,
    time_index,
)
from tercet.pipeline.pipeline import Pipeline

_QUERIES = 1_024  # sampled queries for searching and training


@dataclass(frozen=True)
class Probe:
    """Samples and rates, in the order of the stages."""

    reading: Reading
    read: Resources
    written: list[Written]
    embedded: Embedded
    lists: Lists
    mined: Resources
    scored: list[Scored]
    #: Seconds to build an index and per search: of the index for mining, and of the served one.
    mining: tuple[float, float]
    served: tuple[float, float]
    #: Seconds of query adapter training per query and epoch.
    adapting: float
    rehearsal: modeling.DryRun
    trained: Resources
    #: Mean tokens of a training passage as the student reads it.
    tokens_per_passage: float
    #: Parameters of the student.
    parameters: int
    seconds: float


def probe(pipeline: Pipeline, *, share: float = 1.0) -> Probe:
    """Time every stage on a sample, for this `share` of the usual time of about 50 seconds.

    Raises InputError where the run would.
    """
    recipe, start = pipeline.recipe, time.monotonic()
    with measured() as read:
        reading = read_source(
            pipeline.components.source,
            recipe.corpus.test_split,
            seed=recipe.seed,
            budget=READING * share,
        )
    console.print(f"  {reading.passages:,} passages; generating queries for a sample", style="dim")
    written = _write(pipeline, reading, WRITING * share)
    queries = _sample([query for each in written for query in each.queries], recipe.seed)
    if not queries:
        tried = sum(each.passages for each in written)
        raise InputError(f"the generators wrote no query for any of {tried} passages")
    order = np.random.default_rng(recipe.seed + 1).permutation(len(reading.sample))
    shuffled = [reading.sample[i] for i in order]
    console.print("  embedding, searching and scoring a sample", style="dim")
    texts, judged = [query for query, _ in queries], [query.text for query in reading.judged]
    encoder = pipeline.components.base_model()
    assert isinstance(encoder, modeling.BiEncoder)
    embedded = embed(encoder, shuffled, texts, judged, budget=EMBEDDING * share)
    with measured() as mined:
        found = [
            _find(pipeline, r, reading, embedded, queries) for r in recipe.negatives.retrievers
        ]
        exact = time_index(retrieval.ExactIndex, embedded.vectors, reading.passages)
        mining, served = (
            exact
            if settings.backend in ("exact", "weaviate")
            else time_index(
                partial(pipeline.components.index_of, settings), embedded.vectors, reading.passages
            )
            for settings in (recipe.negatives.index, recipe.index)
        )
    lists = Lists(queries, found, recipe.negatives.candidates)
    characters = float(np.mean([len(passage.contents) for passage in reading.sample]))
    draws = lists.scored(PAIRS, recipe.seed)
    scored = [
        _score(pipeline, scorer, reading, shuffled, draws, characters, share)
        for scorer in recipe.teacher.each.values()
    ]
    console.print("  training a few steps", style="dim")
    adapting = time_adapter(embedded.vectors.shape[1], recipe.negatives.candidates)
    student = pipeline.components.base()
    drawn = lists.drawn(recipe.negatives_per_query, recipe.seed)
    read_in_training = lists.trained_on(recipe.negatives_per_query, PAIRS, recipe.seed)
    ids = student.tokenize([passage for _, passage in read_in_training.pairs], "passage")
    lengths = np.array([len(row) for row in ids], np.float64)
    parameters = sum(p.numel() for p in student.backbone.parameters())
    with measured() as trained:
        rehearsal = _train(student, recipe, queries, drawn, TRAINING * share)
    halfway(trained)
    return Probe(
        reading=reading,
        read=read,
        written=written,
        embedded=embedded,
        lists=lists,
        mined=mined,
        scored=scored,
        mining=mining,
        served=served,
        adapting=adapting,
        rehearsal=rehearsal,
        trained=trained,
        tokens_per_passage=read_in_training.mean(lengths, characters),
        parameters=parameters,
        seconds=time.monotonic() - start,
    )


def _write(pipeline: Pipeline, reading: Reading, budget: float) -> list[Written]:
    """Let each generator write about different passages, as in the run."""
    section, seed = pipeline.recipe.queries, pipeline.recipe.seed
    per_passage, wanted = passages_to_sample(reading.passages, section.count, section.per_passage)
    order = np.random.default_rng(seed).permutation(len(reading.sample))[:wanted]
    shares = [settings.share for settings in section.generators]
    corpus, written = Passages.of(reading.sample), list[Written]()
    parts = deal(corpus.contents, order, shares, section.shard_passages)
    for which, settings in enumerate(section.generators):
        mine = [part for part in parts if part.which == which]

        def shard_seed(name: str, place: int, mine: list[Part] = mine) -> int:
            return seed_of_shard(seed, name, mine[place // section.shard_passages].number)

        if mine:
            written.append(
                write(
                    pipeline.components,
                    settings,
                    [reading.sample[row] for part in mine for row in part.rows],
                    corpus,
                    per_passage,
                    seed=shard_seed,
                    budget=budget * settings.share / sum(shares),
                )
            )
    return written


def _sample(queries: list[tuple[str, Passage]], seed: int) -> list[tuple[str, Passage]]:
    order = np.random.default_rng(seed).permutation(len(queries))[:_QUERIES]
    return [queries[i] for i in sorted(order)]


def _find(
    pipeline: Pipeline,
    settings: RetrieverSettings,
    reading: Reading,
    embedded: Embedded,
    queries: list[tuple[str, Passage]],
) -> Found:
    section = pipeline.recipe.negatives
    depth = section.candidates * settings.share / sum(each.share for each in section.retrievers)
    passages = embedded.passages if settings.kind == "dense" else reading.sample

    def make() -> Retriever:
        if settings.kind != "dense":
            return pipeline.components.text_retriever(settings, Passages.of(passages))
        encoder, vectors = pipeline.components.base_model(), embedded.vectors
        if settings.model:
            encoder = pipeline.components.other_encoder(settings)
            vectors = encoder.encode_passages([p.contents for p in passages])
        index = retrieval.ExactIndex()
        index.build([p.id for p in passages], vectors)
        return retrieval.DenseRetriever(encoder, index)

    return search(
        make,
        passages,
        queries,
        reading,
        share=settings.share,
        depth=round(depth),
        timed=settings.kind != "dense" or settings.model is not None,
    )


def _score(
    pipeline: Pipeline,
    scorer: ScorerSettings,
    reading: Reading,
    passages: list[Passage],
    draws: Draws,
    characters: float,
    share: float,
) -> Scored:
    """Time one scorer on the drawn pairs."""
    components, recipe = pipeline.components, pipeline.recipe
    budget = SCORING * share / len(recipe.teacher.each)
    per_query = recipe.negatives.candidates + 1
    if scorer.kind == "bi_encoder":
        texts = list(dict.fromkeys(query for query, _ in draws.pairs))[:_QUERIES]
        encoder = components.scorer_encoder(scorer)
        embedded = embed(encoder, passages, texts, [], budget=budget)
        mines = scorer.name in {r.model for r in recipe.negatives.retrievers}
        found = score_by_vectors(embedded, 0 if mines else reading.passages, per_query)
        return replace(found, name=scorer.described)
    if scorer.kind == "bm25":
        sample, scale = Passages.of(passages), reading.scale(len(passages))
        index = partial(components.bm25, scorer, sample)
        found = score_by_terms(index, draws.pairs, budget=budget, scale=scale)
        return replace(found, name=scorer.described)
    load = partial(components.teacher, scorer)
    found = score(load, draws.pairs, budget=budget, per_query=per_query)
    tokens = draws.mean(found.lengths, characters)
    return replace(found, name=scorer.described, tokens_per_pair=tokens)


def _train(
    student: modeling.BiEncoder,
    recipe: Recipe,
    queries: list[tuple[str, Passage]],
    drawn: list[list[Passage]],
    budget: float,
) -> modeling.DryRun:
    """Train a few steps on sampled lists with random targets."""
    random = np.random.default_rng(recipe.seed)
    rows = [(query, each) for (query, _), each in zip(queries, drawn, strict=True) if each[1:]]
    scores = [random.normal(scale=0.1, size=len(each)).astype(np.float32) for _, each in rows]
    lists = Dataset.from_dict(
        {
            "query_id": [f"{row}" for row in range(len(rows))],
            "query": [query for query, _ in rows],
            "split": ["train"] * len(rows),
            "passages": [[p.id for p in each] for _, each in rows],
            "teacher": scores,
        }
    )
    train = data.Triplets(
        lists,
        Dataset.from_dict({"target": scores}),
        negatives_per_query=recipe.negatives_per_query,
        false_negative_margin=recipe.loss.false_negative_margin,
        seed=recipe.seed,
    )
    texts = {p.id: p.contents for _, each in rows for p in each}
    return modeling.dry_run(student, train, texts, recipe, budget=budget)
