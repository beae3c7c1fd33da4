"""The experiment of eval.py: every system searched over every index."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property, partial
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from rich.text import Text

from tercet import retrieval
from tercet.config.index import ComparedIndex
from tercet.config.parsing import nearest
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Stage, Writer, produce
from tercet.core.console import console, progress
from tercet.core.extras import check_installed
from tercet.core.files import digest, slug
from tercet.core.metric_names import parse_metric
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
from tercet.data.sources import BeirFolder
from tercet.evaluation.results import EXACT, Build
from tercet.evaluation.systems import (
    AdaptedSystem,
    BaseSystem,
    EncodedSystem,
    System,
    Systems,
    compared_baseline,
    compared_systems,
    made_on,
    ships_base,
)
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.latency import Timing

SHARD_QUERIES = 64  # most that a resumed run searches, and reranks, again


@dataclass
class Searched:
    """One system over one index, while the experiment runs."""

    retriever: Retriever | None = None
    run: Run = field(default_factory=dict)
    #: The ten best, searched with k = 10 as in the timing: an index may find others with larger k.
    best: Run = field(default_factory=dict)
    build: Build | None = None
    refused: str = ""
    single: Timing | None = None
    batched: Timing | None = None


def compared_indexes(recipe: Recipe) -> list[ComparedIndex]:
    """The exact index, then those that the recipe lists, by default its `index` section's."""
    given = recipe.evaluation.indexes
    if not given:
        given = [ComparedIndex(**recipe.index.settings())]
    others = [index for index in given if index.backend != "exact"]
    return [ComparedIndex(name=EXACT), *others]


class Experiment:
    """The systems and indexes of a recipe, their rankings and metric values.

    A context manager: the indexes that it builds are discarded at exit, on servers too.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.pipeline = Pipeline(recipe)
        self.recipe = self.pipeline.recipe
        self.indexes = compared_indexes(recipe)
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
        """Load or look up every model, file and server before any work. Raises InputError."""
        self.pipeline.components.check_plugins()
        check_installed(*{"wandb"}.intersection(self.recipe.tracking.report_to))
        self.pipeline.check_judged()
        if not self.pipeline.inputs("model").judged().qrels:
            self.pipeline.check()  # test queries are then held-out synthetic ones
        if not self.queries:
            raise InputError("no test query has a text: there is nothing to search with")
        self._check_out_of_domain()
        for index in self.indexes:
            retrieval.drop_leftovers(self.pipeline.components.index_of(index))
            # A kind that does not take these vectors is told in the table instead.
            retrieval.try_out(self.pipeline.components.index_of(index), 0)
        if self.baseline not in self.systems:
            raise InputError(
                f"evaluation.baseline {self.baseline!r} is not a system"
                f"{nearest(self.baseline, list(self.systems))}"
            )
        self.systems.check()

    def _check_out_of_domain(self) -> None:
        if path := self.recipe.evaluation.out_of_domain_path:
            if self.recipe.model.given:
                raise InputError(
                    "evaluation.out_of_domain_path needs its passages encoded, and the model that "
                    "made the vectors of model.passage_vectors is not known: leave it out"
                )
            BeirFolder(path)
            both = self.systems.last(BaseSystem) and self.systems.last(AdaptedSystem)
            if not both and not ships_base(self.recipe):
                raise InputError(
                    "evaluation.out_of_domain_path compares the systems base and adapted: run "
                    "train.py first, or list both"
                )

    # ── queries and systems ──────────────────────────────────────────────────────────────────

    @cached_property
    def _test_set(self) -> tuple[list[Query], Qrels, str]:
        queries, qrels, description = self.pipeline.split("test")
        # Ordered by id, so that no metric depends on the order of the files.
        ordered = {query: dict(sorted(qrels[query].items())) for query in sorted(qrels)}
        return sorted(queries, key=lambda query: query.id), ordered, description

    @property
    def queries(self) -> list[Query]:
        """The test queries, by id."""
        return self._test_set[0]

    @property
    def qrels(self) -> Qrels:
        """Their judgements."""
        return self._test_set[1]

    @property
    def queries_are(self) -> str:
        """Where the test queries come from, in words."""
        return self._test_set[2]

    @cached_property
    def systems(self) -> Systems:
        """The systems to compare."""
        return Systems(self.pipeline, compared_systems(self.recipe), self.queries)

    @property
    def baseline(self) -> str:
        """The system that others are compared with: by default the base, BM25 or the first."""
        order = ((system.baseline_order, label) for label, system in self.systems.items())
        return compared_baseline(self.recipe) or min(order)[1]

    @property
    def depth(self) -> int:
        """Passages retrieved per query: the largest cut-off."""
        return max(retrieval.TOP, *(parse_metric(m)[1] for m in self.recipe.all_metrics))

    # ── searching ────────────────────────────────────────────────────────────────────────────

    def search(self, index: ComparedIndex) -> None:
        """Fill the index with each system's vectors and search it with the test queries."""
        dense: dict[str, Retriever] = {}
        builds: dict[str, Build] = {}
        refused: dict[str, str] = {}
        for system in self._over(index):
            for each in system.encoded:
                if each.label not in dense and each.label not in refused:
                    try:
                        dense[each.label], builds[each.label] = self._build(each, index)
                    except UnsupportedVectors as reason:
                        refused[each.label] = str(reason)
                        console.print(
                            Text("not possible", "yellow"),
                            f"{each.label} in {index.label}: {reason}",
                        )
            cell = self.cells[system.label, index.label] = Searched()
            parts = [each.label for each in system.encoded]
            cell.refused = next((refused[name] for name in parts if name in refused), "")
            if not cell.refused:
                try:
                    self._fill(cell, system, index, system.retriever(dense))
                except UnsupportedVectors as reason:
                    cell.refused = str(reason)
                cell.build = builds.get(system.label)

    def _fill(
        self, cell: Searched, system: System, index: ComparedIndex, retriever: Retriever
    ) -> None:
        if index.label == EXACT:
            run = self._kept(system, retriever)
        else:
            run = self._searched(retriever, self.depth)
        top_k = system.settings.top_k
        cell.run = {query: ranking[:top_k] for query, ranking in run.items()}
        if index.label == EXACT:
            cell.best = {query: ranking[: retrieval.TOP] for query, ranking in cell.run.items()}
        else:
            cell.best = self._searched(retriever, retrieval.TOP)
        cell.retriever = retriever

    def _blocks(self) -> list[list[Query]]:
        """The queries in batches, the same for every search.

        A half-precision vector depends slightly on the rest of its batch: with different batches
        an index would seem to miss passages that it does not.
        """
        starts = range(0, len(self.queries), SHARD_QUERIES)
        return [self.queries[i : i + SHARD_QUERIES] for i in starts]

    def _searched(self, retriever: Retriever, k: int) -> Run:
        deep = retrieval.deeper(self.queries, k)
        found = [each for block in self._blocks() for each in _search(retriever, block, deep)]
        return retrieval.measured(self.queries, found, k)

    def _over(self, index: ComparedIndex) -> Iterator[System]:
        """The systems to search over an index: approximate ones are for systems with vectors.

        Reranking would hide what an index misses, so it is searched over the exact index only.
        """
        for system in self.systems.values():
            if index.label == EXACT or (system.encoded and not system.reranks):
                yield system

    def _build(self, system: EncodedSystem, settings: ComparedIndex) -> tuple[Retriever, Build]:
        vectors, label = system.vectors, system.label
        index = self.pipeline.components.index_of(settings)
        self._open.append(index)
        of = f"{settings.label} of {label}'s {len(vectors):,} vectors"
        console.print(Text("build", "yellow"), of)
        start = time.perf_counter()
        index.build(self.pipeline.passages.ids, vectors)
        seconds, size = time.perf_counter() - start, index.size()
        return system.over(index), Build(seconds, size.memory, size.disk, size.note)

    def _kept(self, system: System, retriever: Retriever) -> Run:
        """Rankings over the exact index, as an artefact: reranking can take minutes."""
        texts = [[query.id, query.text] for query in self.queries]
        depth = retrieval.deeper(self.queries, self.depth)
        stage = Stage(
            self.recipe.folder / "rankings" / slug(system.label),
            settings={
                "depth": depth,
                "top_k": system.settings.top_k,
                "shard_queries": SHARD_QUERIES,
            },
            inputs={
                "system": system.identity(),
                "passages": self.pipeline.corpus.digest_of("passages"),
                "queries": digest(texts),
            },
            made_on=made_on(system),
        )

        def make(writer: Writer) -> None:
            with progress(f"searching with {system.label}", len(texts), "queries") as advance:
                for number, block in enumerate(self._blocks()):
                    table = partial(_table, retriever, block, depth)
                    writer.shard("rankings", number, table)
                    advance(len(block))

        rows = produce(stage, make).dataset("rankings")[:]
        found = [
            list(zip(passages, scores, strict=True))
            for passages, scores in zip(rows["passages"], rows["scores"], strict=True)
        ]
        return retrieval.measured(self.queries, found, self.depth)

    # ── rankings and metric values ───────────────────────────────────────────────────────────

    def runs(self) -> dict[tuple[str, str], Run]:
        """System and index -> rankings."""
        return {name: cell.run for name, cell in self.cells.items() if not cell.refused}

    @cached_property
    def metrics(self) -> dict[tuple[str, str], dict[str, dict[str, float]]]:
        """System and index -> metric -> query id -> value."""
        metrics = self.recipe.all_metrics
        return {
            name: retrieval.evaluate(self.qrels, run, metrics) for name, run in self.runs().items()
        }

    def primary(self) -> dict[str, dict[str, float]]:
        """System -> query id -> value of the primary metric over the exact index."""
        metric = self.recipe.evaluation.primary_metric
        return {
            label: self.metrics[label, EXACT][metric]
            for label in self.systems
            if (label, EXACT) in self.metrics
        }


def _search(retriever: Retriever, block: Sequence[Query], k: int) -> list[Ranking]:
    return retriever.search([query.text for query in block], k)


def _table(retriever: Retriever, block: Sequence[Query], k: int) -> pa.Table:
    rankings = _search(retriever, block, k)
    return pa.table(
        {
            "passages": pa.array([[p for p, _ in r] for r in rankings], pa.list_(pa.string())),
            "scores": pa.array([[s for _, s in r] for r in rankings], pa.list_(pa.float32())),
        }
    )
