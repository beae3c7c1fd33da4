"""Precomputed passage vectors: from a column of the corpus, a file or a live index."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tercet import data, retrieval
from tercet.config.index import IndexSettings
from tercet.core.artifacts import Writer
from tercet.core.console import progress
from tercet.core.files import digest, file_sha256
from tercet.core.mapped import BLOCK, Vectors, map_scratch, new_scratch
from tercet.core.schema import Encoder, InputError, Source
from tercet.data import Passages
from tercet.data.sources import PassagesWithQrels
from tercet.modeling import SimilarityEncoder, from_first_process
from tercet.retrieval.vector_files import cosines

if TYPE_CHECKING:
    from tercet.pipeline.run import Inputs
    from tercet.retrieval.weaviate.reader import WeaviateReader

#: Place for messages, ids, and vectors, float32 [ids, dimension].
Block = tuple[str, list[str], np.ndarray]
#: A vector is of length 1 if it differs by less: half precision does.
UNIT = 1e-2
#: Passages that show whether a model made given vectors; fewer where each is paid for.
FEW, FEW_PAID = 64, 4


class PrecomputedVectors(Protocol):
    """Passage vectors with ids, read in blocks."""

    #: Where they are, for messages and reports.
    place: str

    def identity(self) -> str:
        """Digest of everything that is read."""
        ...

    def blocks(self) -> Iterator[Block]:
        """Read all vectors."""
        ...


class _Column:
    """A column of the corpus's table."""

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
                    f"{places[wide]}: a vector of {len(vectors[wide])} numbers after ones of "
                    f"{len(vectors[0])}: all must be of one model"
                )
            yield places[0], list(ids), np.stack(vectors).astype(np.float32, copy=False)


class _Parquet:
    """A Parquet file with id and vector."""

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
    """A collection on a server."""

    def __init__(self, reader: WeaviateReader, vector: str | None, id: str | None) -> None:
        self._reader, self._vector, self._id = reader, reader.vector_name(vector), id
        self.place = f"Weaviate collection {reader.name}, vector {self._vector}"

    def identity(self) -> str:
        """Digest of its size and first page: a live database does not say when it changed."""
        first = next(self.blocks(), None)
        seen = [first[1], digest(first[2].tolist())] if first else []
        return digest([self.place, len(self._reader), *seen])

    def blocks(self) -> Iterator[Block]:
        return self._reader.read_vectors(self._vector, self._id)


def given_vectors(
    recipe: Any, source: Source, live: Callable[[IndexSettings], IndexSettings]
) -> PrecomputedVectors:
    """The vectors that `model.passage_vectors` names. Raises InputError if there are none."""
    if recipe.model.passage_vectors == "corpus":
        if not isinstance(source, PassagesWithQrels):
            raise InputError(
                "model.passage_vectors is corpus: only corpus.source tables holds vectors"
            )
        column = recipe.corpus.passages.vector or ""
        return _Column(source, column, recipe.corpus.label)
    if recipe.model.passage_vectors == "index":
        section = live(recipe.index)
        reader = retrieval.read_collection(
            section.collection or "", section.tenant, "index.collection"
        )
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
    """Store the vectors of all passages, normalised where they compare by cosine.

    If `similarity` is None it is inferred from their lengths; `as_they_are` changes no vector.
    Raises InputError for passages without a vector and for unusable vectors.
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
    """Cosine if the vectors have unit length, where it equals the dot product; else dot."""
    rows = np.random.default_rng(0).permutation(len(vectors))[:BLOCK]
    lengths = np.linalg.norm(vectors[np.sort(rows)], axis=1)
    return "cosine" if np.abs(lengths - 1).max() < UNIT else "dot"


def likeness(encoder: Encoder, passages: Passages, vectors: Vectors, few: int) -> float:
    """How like an encoder's vectors of a `few` passages are the given ones: 1 where it made them.

    It is their mean cosine, on a scale where 0 is the mean cosine with another passage's vector:
    some models give all texts cosines above 0.7, and of those 0.98 is far from equal. 0 where the
    dimensions differ.
    """
    rows = np.sort(np.random.default_rng(0).permutation(len(passages))[:few])
    if encoder.dimension != vectors.shape[1]:
        return 0.0
    found = encoder.encode_passages([passages.contents[row] for row in rows.tolist()])
    known = np.asarray(vectors[rows])
    same, other = (float(np.mean(cosines(found, v))) for v in (known, np.roll(known, 1, axis=0)))
    floor = max(other, 0.0) if len(rows) > 1 else 0.0
    return (same - floor) / (1 - floor) if floor < 1 else same


def similarity_to_given(encoder: SimilarityEncoder, inputs: Inputs) -> float:
    """The `likeness` of a model's vectors of a few passages and the given ones: 1 is equal.

    The first process computes it. A query encoder, which encodes no passages, knows its space:
    raises InputError for another.
    """
    facts, passages, vectors = inputs["embeddings"].facts, inputs.passages, inputs.vectors
    space = getattr(encoder, "space", None)
    if space is None:
        few = FEW_PAID if inputs.recipe.model.api else FEW
        return from_first_process(lambda: likeness(encoder, passages, vectors, few))

    def vectors_of(ids: Sequence[str]) -> np.ndarray:
        rows = passages.rows(ids)
        missing = next((id for id in ids if id not in rows), None)
        if missing is not None:
            raise InputError(f"there is no passage {missing!r}")
        return vectors[np.array([rows[id] for id in ids])]

    place, similarity = facts["place"], facts["similarity"]
    from_first_process(lambda: space.check(place, similarity, vectors_of))
    return 1.0
