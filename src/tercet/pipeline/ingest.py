"""Vectors that the corpus carries -> a Weaviate collection."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING

from tercet.config.recipe import Recipe
from tercet.core.artifacts import Stage, Writer, produce
from tercet.core.console import console, progress
from tercet.core.files import kept, write_json
from tercet.core.processes import locked
from tercet.core.schema import InputError
from tercet.data.sources import PassagesWithQrels, open_source

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.ingest import Row

REACHED = "reached.json"
OWNER = "vectors that a corpus carries, written by Tercet"


def ingest(recipe: Recipe) -> None:
    """Fill the recipe's collection from its corpus, unless it is full already."""
    with locked(recipe.folder):
        _Run(recipe).ensure()


class _Run:
    def __init__(self, recipe: Recipe) -> None:
        # The client is an extra.
        from tercet.retrieval.weaviate.ingest import Ingest
        from tercet.retrieval.weaviate.settings import WeaviateSettings

        source = open_source(recipe.corpus)
        if not isinstance(source, PassagesWithQrels):
            raise InputError("only tables hold vectors of passages (corpus.source)")
        next(source.embedded(), None)  # a missing column is refused now
        self.source, self.empty = source, 0
        section = recipe.ingest
        self.stage = Stage(
            recipe.folder / "ingest",
            settings=asdict(section) | {"collection": recipe.collection},
            inputs={"source": source.source.identity()},  # judgements are no part of it
        )
        self.finished, _ = self.stage.finished()
        self.target = Ingest(
            recipe.collection,
            section.vector,
            WeaviateSettings(
                kind=section.kind,
                metric=section.metric,
                owner=f"{OWNER}: {recipe.folder.resolve()}",
            ),
            fresh=not self.finished and not self.stage.has_partial,
        )

    def ensure(self) -> None:
        """Write the passages that the server lacks, and the manifest."""
        held = self.target.count()
        if self.finished and held != self.finished.facts["passages"]:
            raise InputError(
                f"{self.target.name} held {self.finished.facts['passages']:,} passages when it was "
                f"written, and holds {held or 0:,} now: to write it again, delete that collection "
                f"and {self.stage.path}"
            )
        produce(self.stage, self._fill)
        console.print(f"      {self.target.name}, vector {self.target.vector!r}")

    def _fill(self, writer: Writer) -> None:
        from tercet.retrieval.weaviate.client import RefusedPassages

        note = writer.folder / REACHED
        start: int = kept(note, lambda reached: max(0, int(reached["rows"]))) or 0
        if (self.target.count() or 0) < start:  # the server lost some or all: write again
            start = 0
        write_json(note, {"rows": start})
        with progress(f"writing {self.target.name}", None, "passages") as advance:
            before = 0

            def reached(rows: int) -> None:
                nonlocal before
                write_json(note, {"rows": rows})
                advance(rows - before)
                before = rows

            try:
                passages = self.target.fill(self._rows, start, reached)
            except RefusedPassages as refused:
                file = self.stage.path.with_name("ingest-refused.json")
                write_json(file, refused.failures)
                raise InputError(f"{refused} All of them are in {file}") from None
        writer.facts |= {"passages": passages, "empty_passages": self.empty}

    def _rows(self) -> Iterator[Row]:
        from tercet.retrieval.weaviate.ingest import Row

        self.empty = 0
        for _, passage, vector in self.source.embedded():
            if passage.contents:
                yield Row(passage, vector)
            else:
                self.empty += 1
