"""The experiment of eval.py: systems by indexes, searched, timed and compared."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import cycle, islice
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tercet import retrieval
from tercet.config.index import ComparedIndex
from tercet.config.parsing import nearest
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Stage, Writer, produce
from tercet.core.console import console, progress
from tercet.core.files import digest, slug
from tercet.core.metric_names import parse_metric
from tercet.core.resources import gigaflops
from tercet.core.schema import (
    Index,
    InputError,
    Qrels,
    Query,
    Ranking,
    Retriever,
    Run,
    UnsupportedVectors,
)
from tercet.data.corpus import read_judged
from tercet.data.sources import BeirFolder
from tercet.evaluation.latency import latency_queries
from tercet.evaluation.results import EXACT, Build
from tercet.evaluation.systems import DENSE, Systems, listed
from tercet.pipeline.components import check_installed
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.page.page import check_page
from tercet.retrieval.latency import Timing

SHARD_QUERIES = 64  # what a killed run searches, and reranks, again


@dataclass
class Searched:
    """One system over one index, while the experiment goes on."""

    retriever: Retriever | None = None
    run: Run = field(default_factory=dict)
    #: The ten best as the clock asks for them: what an index finds may depend on how many are.
    best: Run = field(default_factory=dict)
    build: Build | None = None
    refused: str = ""
    single: Timing | None = None
    batched: Timing | None = None


def compared_indexes(recipe: Recipe) -> list[ComparedIndex]:
    """Exact first, then those that the recipe lists, else the one of its `index` section."""
    given = recipe.evaluation.indexes
    if not given:
        given = [ComparedIndex(**recipe.index.settings())]
    others = [index for index in given if index.backend != "exact"]
    return [ComparedIndex(name=EXACT), *others]


class Experiment:
    """Use as a context manager: what it builds on servers is gone when it ends."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.pipeline = Pipeline(recipe)
        self.indexes = compared_indexes(recipe)
        self.settings = listed(recipe)
        self.cells: dict[tuple[str, str], Searched] = {}
        self._open: list[Index] = []
        self.notes: list[str] = []
        self.machine: dict[str, Any] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        for index in self._open:
            with suppress(InputError):
                index.discard()
        self._open = []

    def check(self) -> None:
        """Meet every model, file and server before any work. Raises InputError."""
        check_page()
        check_installed(*{"wandb"}.intersection(self.recipe.tracking.report_to))
        if not read_judged(self.pipeline.corpus, self.recipe.corpus.test_split)[1]:
            self.pipeline.check()  # held-out synthetic queries need all that makes them
        if not self.queries:
            raise InputError("no test query has a text: there is nothing to search with")
        self._check_second()
        for index in self.indexes:
            retrieval.drop_leftovers(self.pipeline.components.index_of(index))
        if self.baseline not in self.systems.settings:
            raise InputError(
                f"evaluation.baseline {self.baseline!r} is not a system"
                f"{nearest(self.baseline, list(self.systems.settings))}"
            )
        self.systems.check()

    def _check_second(self) -> None:
        if path := self.recipe.evaluation.out_of_domain_path:
            if self.recipe.model.given:
                raise InputError(
                    "evaluation.out_of_domain_path needs passages encoded, and what made the "
                    "vectors of model.passage_vectors is not here: leave it out"
                )
            BeirFolder(path)
            if not {"base", "adapted"} <= {system.kind for system in self.settings}:
                raise InputError(
                    "evaluation.out_of_domain_path compares the systems base and adapted: run "
                    "train.py first, or list both"
                )

    # ── what is asked ────────────────────────────────────────────────────────────────────────

    @cached_property
    def _measured(self) -> tuple[list[Query], Qrels, str]:
        queries, qrels, what = self.pipeline.split("test")
        # In the order of their ids, so that no figure depends on the order in which they came.
        ordered = {query: dict(sorted(qrels[query].items())) for query in sorted(qrels)}
        return sorted(queries, key=lambda query: query.id), ordered, what

    @property
    def queries(self) -> list[Query]:
        """The test queries, by id."""
        return self._measured[0]

    @property
    def qrels(self) -> Qrels:
        """Their judgements."""
        return self._measured[1]

    @property
    def queries_are(self) -> str:
        """What they are, in words."""
        return self._measured[2]

    @cached_property
    def systems(self) -> Systems:
        """What is compared."""
        return Systems(self.pipeline, self.settings, self.queries)

    @property
    def baseline(self) -> str:
        """The system that others are compared with."""
        if self.recipe.evaluation.baseline:
            return self.recipe.evaluation.baseline
        rank = {"base": 0, "bm25": 1}
        return min((rank.get(system.kind, 2), system.label) for system in self.settings)[1]

    @property
    def depth(self) -> int:
        """Passages that each query gets: the largest cut-off."""
        return max(retrieval.TOP, *(parse_metric(m)[1] for m in self.recipe.all_measures))

    # ── searching ────────────────────────────────────────────────────────────────────────────

    def search(self, index: ComparedIndex) -> None:
        """Fill the index with each system's vectors, and search it with the test queries."""
        dense: dict[str, Retriever] = {}
        builds: dict[str, Build] = {}
        refused: dict[str, str] = {}
        for label in self._over(index):
            for name in self.systems.dense(label):
                if name not in dense and name not in refused:
                    try:
                        dense[name], builds[name] = self._build(name, index)
                    except UnsupportedVectors as reason:
                        refused[name] = str(reason)
                        console.print(f"[yellow]not possible[/] {name} in {index.label}: {reason}")
            cell = self.cells[label, index.label] = Searched()
            parts = self.systems.dense(label)
            cell.refused = next((refused[name] for name in parts if name in refused), "")
            if not cell.refused:
                try:
                    self._fill(cell, label, index, self.systems.retriever(label, dense))
                except UnsupportedVectors as reason:
                    cell.refused = str(reason)
                cell.build = builds[label] if label in builds else None

    def _fill(self, cell: Searched, label: str, index: ComparedIndex, retriever: Retriever) -> None:
        top_k = self.systems.settings[label].top_k
        if index.label == EXACT:
            run = self._kept(label, retriever)
        else:
            run = self._searched(retriever, self.depth)
        cell.run = {query: ranking[:top_k] for query, ranking in run.items()}
        if index.label == EXACT:
            cell.best = {query: ranking[: retrieval.TOP] for query, ranking in cell.run.items()}
        else:
            cell.best = self._searched(retriever, retrieval.TOP)
        cell.retriever = retriever

    def _blocks(self) -> list[list[Query]]:
        """The queries in the batches that every search takes them in.

        What else is in a batch changes a half-precision vector a little: with other batches an
        index would seem to lose what it does not.
        """
        starts = range(0, len(self.queries), SHARD_QUERIES)
        return [self.queries[i : i + SHARD_QUERIES] for i in starts]

    def _searched(self, retriever: Retriever, k: int) -> Run:
        return self._by_query(
            ranking for block in self._blocks() for ranking in _found(retriever, block, k)
        )

    def _by_query(self, rankings: Iterable[Ranking]) -> Run:
        return {q.id: ranking for q, ranking in zip(self.queries, rankings, strict=True)}

    def _over(self, index: ComparedIndex) -> Iterator[str]:
        """BM25 has an index of its own, and reranking hides what an index loses."""
        for label, system in self.systems.settings.items():
            if index.label == EXACT or system.kind in DENSE:
                yield label
            elif self.systems.dense(label) and not self.systems.reranks(label):
                yield label

    def _build(self, label: str, settings: ComparedIndex) -> tuple[Retriever, Build]:
        vectors, encoder = self.systems.vectors(label), self.systems.encoder(label)
        index = self.pipeline.components.index_of(settings)
        self._open.append(index)
        console.print(f"[yellow]build[/] {settings.label} of {label}'s {len(vectors):,} vectors")
        start = time.perf_counter()
        index.build(self.pipeline.passages.ids, vectors)
        seconds, size = time.perf_counter() - start, index.size()
        top_k = self.systems.settings[label].top_k
        retriever = retrieval.DenseRetriever(encoder, index, name=label, top_k=top_k)
        return retriever, Build(seconds, size.memory, size.disk, size.note)

    def _kept(self, label: str, retriever: Retriever) -> Run:
        """Rankings over the exact index, as an artefact: some take a teacher minutes."""
        asked = [[query.id, query.text] for query in self.queries]
        stage = Stage(
            self.recipe.folder / "rankings" / slug(label),
            settings={
                "depth": self.depth,
                "top_k": self.systems.settings[label].top_k,
                "shard_queries": SHARD_QUERIES,
            },
            inputs={
                "system": self.systems.identity(label),
                "passages": self.pipeline.corpus.digest_of("passages"),
                "queries": digest(asked),
            },
        )

        def make(writer: Writer) -> None:
            with progress(f"searching with {label}", len(asked), "queries") as advance:
                for number, block in enumerate(self._blocks()):
                    writer.shard("rankings", number, partial(self._shard, retriever, block))
                    advance(len(block))

        rows = produce(stage, make).dataset("rankings")[:]
        return self._by_query(
            list(zip(passages, scores, strict=True))
            for passages, scores in zip(rows["passages"], rows["scores"], strict=True)
        )

    def _shard(self, retriever: Retriever, block: Sequence[Query]) -> pa.Table:
        return _table(_found(retriever, block, self.depth))

    # ── the clock ────────────────────────────────────────────────────────────────────────────

    def time(self) -> None:
        """Answer the clock's queries one by one and in batches, all systems and indexes in turns.

        A hybrid or reranked system is timed over the exact index alone: what it adds to its parts
        does not depend on the index.
        """
        section = self.recipe.evaluation
        if not section.latency_queries:
            return
        retrievers = {
            (label, index): cell.retriever
            for (label, index), cell in self.cells.items()
            if cell.retriever and (index == EXACT or self.systems.settings[label].kind in DENSE)
        }
        own = [query.text for query in self.queries]
        texts, filled = latency_queries(self.pipeline, own, section.latency_queries)
        given = {cell: self._known(cell[0], texts) for cell in retrievers}
        self._forecast(retrievers, given)
        self.machine["gigaflops_before"] = round(gigaflops(), 1)
        # In batches everything is faster, and what is not has had its time.
        for what, batch, seconds, attribute in (
            ("single queries", 1, section.latency_budget_seconds, "single"),
            ("batches", section.latency_batch_size, section.latency_budget_seconds / 4, "batched"),
        ):
            with progress(f"timing {what}", len(texts) * len(retrievers), "queries") as advance:
                timings = retrieval.time_searches(
                    retrievers, given, batch=batch, seconds=seconds, advance=advance
                )
            for cell, timing in timings.items():
                setattr(self.cells[cell], attribute, timing)
        self.machine["gigaflops_after"] = round(gigaflops(), 1)
        self.notes.append(
            f"timed on {len(texts):,} queries, {filled}; the ten best passages of each, after a "
            "warm-up, systems and indexes in turns; an encoder encodes each query once, and that "
            "time counts for each of its indexes"
        )
        self._note_short_clocks(len(texts))

    def _forecast(
        self,
        retrievers: Mapping[tuple[str, str], Retriever],
        texts: Mapping[tuple[str, str], Sequence[str]],
    ) -> None:
        """Say how long the clock will run, from a few queries of each."""
        longest, count = self.recipe.evaluation.latency_budget_seconds, 5
        few = {cell: texts[cell][:count] for cell in retrievers}
        pilot = retrieval.time_searches(retrievers, few, batch=1, seconds=longest)
        singly, encoded = 0.0, set()
        for (label, _), timing in pilot.items():
            a_query = 1 / timing.total.per_second
            if label in encoded:  # by another index's turn already
                a_query -= 1 / timing.phases["encode"].per_second
            encoded |= {label} if "encode" in timing.phases else set()
            singly += min(longest, self.recipe.evaluation.latency_queries * a_query)
        console.print(
            f"[yellow]time[/]  {len(retrievers)} systems over indexes, "
            f"{self.recipe.evaluation.latency_queries:,} queries each: about "
            f"{max(1, round(1.3 * singly / 60))} min"
        )

    def _note_short_clocks(self, wanted: int) -> None:
        short = [
            f"{label} over {index} on {cell.single.queries:,}"
            for (label, index), cell in self.cells.items()
            if cell.single and cell.single.queries < wanted
        ]
        if short:
            seconds = self.recipe.evaluation.latency_budget_seconds
            self.notes.append(
                f"slower than {seconds:g} s for all, so timed singly on fewer: {', '.join(short)}"
            )

    def _known(self, label: str, texts: Sequence[str]) -> Sequence[str]:
        """The texts, or, if a system knows vectors of the test queries alone, those again."""
        encoders = [self.systems.encoder(name) for name in self.systems.dense(label)]
        known = [e.texts for e in encoders if isinstance(e, retrieval.KnownQueries)]
        if not known:
            return texts
        own = [text for text in texts if all(text in some for some in known)]
        note = f"{label}: its vectors were made before, so its time holds no encoding of queries"
        if note not in self.notes:
            self.notes.append(note)
        return list(islice(cycle(own), len(texts)))

    # ── what came of it ──────────────────────────────────────────────────────────────────────

    def runs(self) -> dict[tuple[str, str], Run]:
        """System and index -> what was found."""
        return {name: cell.run for name, cell in self.cells.items() if not cell.refused}

    @cached_property
    def figures(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """System and index -> measure -> query id -> figure."""
        measures = self.recipe.all_measures
        return {
            name: retrieval.evaluate(self.qrels, run, measures) for name, run in self.runs().items()
        }

    def primary(self) -> dict[str, dict[str, float]]:
        """System -> query id -> the primary measure over the exact index."""
        measure = self.recipe.evaluation.primary_metric
        return {
            label: self.figures[label, EXACT][measure]
            for label in self.systems.settings
            if (label, EXACT) in self.figures
        }


def _found(retriever: Retriever, block: Sequence[Query], k: int) -> list[Ranking]:
    return retriever.search([query.text for query in block], k)


def _table(rankings: Sequence[Ranking]) -> pa.Table:
    return pa.table(
        {
            "passages": pa.array([[p for p, _ in r] for r in rankings], pa.list_(pa.string())),
            "scores": pa.array([[s for _, s in r] for r in rankings], pa.list_(pa.float32())),
        }
    )
