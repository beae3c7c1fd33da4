"""The passages' vectors where they exist already: of the corpus, of a file, of a live index."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tercet import data, retrieval
from tercet.core.artifacts import Writer
from tercet.core.console import progress
from tercet.core.files import digest, file_sha256
from tercet.core.mapped import BLOCK, Vectors, map_scratch, new_scratch
from tercet.core.schema import Encoder, InputError
from tercet.data import Passages
from tercet.data.sources import PassagesWithQrels
from tercet.pipeline.components import Components
from tercet.retrieval.vector_files import cosines

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.reader import WeaviateReader

#: Where, ids, and their vectors, float32 [ids, dimension].
Block = tuple[str, list[str], np.ndarray]
#: A vector is of length 1 if it differs by less: half precision does.
UNIT = 1e-2


class PrecomputedVectors(Protocol):
    """Vectors by the passages' ids, in blocks."""

    #: In words, where they are.
    place: str

    def identity(self) -> str:
        """Digest of what is read."""
        ...

    def blocks(self) -> Iterator[Block]:
        """All of them."""
        ...


class _Column:
    """The column of the corpus's table."""

    def __init__(self, source: PassagesWithQrels, column: str, label: str) -> None:
        self._source = source
        self.place = f"column {column} of {label}"

    def identity(self) -> str:
        return self._source.source.identity()

    def blocks(self) -> Iterator[Block]:
        rows = self._source.passage_vectors()
        while block := list(islice(rows, BLOCK)):
            places, ids, vectors = zip(*block, strict=True)
            wide = next((i for i, v in enumerate(vectors) if len(v) != len(vectors[0])), None)
            if wide is not None:
                raise InputError(
                    f"{places[wide]}: a vector of {len(vectors[wide])} numbers, and "
                    f"{len(vectors[0])} before it: all must be of one model"
                )
            yield places[0], list(ids), np.stack(vectors).astype(np.float32, copy=False)


class _Parquet:
    """A file of id and vector."""

    def __init__(self, path: str) -> None:
        self._path, self.place = path, Path(path).name
        if not Path(path).is_file():
            raise InputError(
                f"{path}: no such file (model.passage_vectors): give encode, corpus, "
                "index, or a Parquet of id and vector"
            )

    def identity(self) -> str:
        return file_sha256(Path(self._path))

    def blocks(self) -> Iterator[Block]:
        return retrieval.parquet_blocks(self._path)


class _Index:
    """A collection that stands on a server."""

    def __init__(self, reader: WeaviateReader, vector: str | None, id: str | None) -> None:
        self._reader, self._vector, self._id = reader, reader.vector_name(vector), id
        self.place = f"Weaviate collection {reader.name}, vector {self._vector}"

    def identity(self) -> str:
        """Of its size and its first page: a live database says not when it changed."""
        first = next(self.blocks(), None)
        seen = [first[1], digest(first[2].tolist())] if first else []
        return digest([self.place, len(self._reader), *seen])

    def blocks(self) -> Iterator[Block]:
        return self._reader.read_vectors(self._vector, self._id)


def given_vectors(parts: Components) -> PrecomputedVectors:
    """The vectors that `model.passage_vectors` names. Raises InputError if there are none."""
    recipe = parts.recipe
    if recipe.model.passage_vectors == "corpus":
        if not isinstance(parts.source, PassagesWithQrels):
            raise InputError(
                "model.passage_vectors is corpus: only corpus.source tables holds vectors"
            )
        column = recipe.corpus.passages.vector or ""
        return _Column(parts.source, column, recipe.corpus.label)
    if recipe.model.passage_vectors == "index":
        section = parts.live(recipe.index)
        reader = retrieval.read_collection(section.collection or "")
        return _Index(reader, section.vector, section.id)
    return _Parquet(recipe.model.passage_vectors)


def write_given(
    writer: Writer,
    given: PrecomputedVectors,
    passages: Passages,
    similarity: str | None,
    scratch: Path,
    *,
    as_they_are: bool,
) -> None:
    """Keep the vectors of all passages as an artefact; unit length where they compare by cosine.

    `similarity` is found from their lengths where it is None; `as_they_are` changes none. Raises
    InputError for passages without a vector, and vectors that are of no use.
    """

    def room(shape: tuple[int, int]) -> np.ndarray:
        path = new_scratch(scratch, *shape)
        vectors = map_scratch(path, *shape)
        path.unlink()
        return vectors

    def shown() -> Iterator[Block]:
        with progress(f"reading {given.place}", len(passages), "vectors") as advance:
            for block in given.blocks():
                yield block
                advance(len(block[1]))

    vectors, others = retrieval.gather_vectors(given.place, shown(), passages.ids, "passages", room)
    similarity = similarity or _similarity(vectors)
    facts = {"similarity": similarity, "place": given.place, "vectors_of_others": others}
    data.store_vectors(
        writer, vectors, passages, facts, normalize=similarity == "cosine" and not as_they_are
    )


def _similarity(vectors: Vectors) -> str:
    """Unit vectors are compared by their cosines: so is their dot product."""
    rows = np.random.default_rng(0).permutation(len(vectors))[:BLOCK]
    lengths = np.linalg.norm(vectors[np.sort(rows)], axis=1)
    return "cosine" if np.abs(lengths - 1).max() < UNIT else "dot"


def mean_cosine_to(encoder: Encoder, passages: Passages, vectors: Vectors, few: int) -> float:
    """Mean cosine of a model's vectors of a `few` passages with those that are given.

    Near 1 where the model made them; 0 where the lengths differ, and near it where models do.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(passages))[:few])
    if encoder.dimension != vectors.shape[1]:
        return 0.0
    found = encoder.encode_passages([passages.contents[row] for row in rows.tolist()])
    return float(np.mean(cosines(found, np.asarray(vectors[rows]))))
