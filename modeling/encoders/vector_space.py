"""The vectors that a query encoder was trained for, and how to recognise them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from tercet.core.mapped import Vectors
from tercet.core.schema import InputError
from tercet.modeling.encoders.st_format import Similarity
from tercet.retrieval.vector_files import cosines

_FILE = "space.safetensors"
_SAMPLE = 16  # passages whose vectors are stored
#: Least cosine of equal vectors, as a server may store one at length 1 or in half precision.
_SAME = 0.999


@dataclass(frozen=True)
class VectorSpace:
    """A sample of passages with their vectors, float32 [sample, dimension], and their origin.

    `similarity` is how vectors compare, `passages` the number of all passages, `place` a
    description of where they are. For a live Weaviate `collection`, `vector` and `id` are its
    vector's name and its id property, as in `IndexSettings`.
    """

    ids: Sequence[str]
    vectors: np.ndarray
    similarity: Similarity
    passages: int
    place: str
    collection: str | None = None
    vector: str | None = None
    id: str | None = None
    #: Names of tenants, joined by commas.
    tenant: str | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        vectors: Vectors,
        similarity: Similarity,
        place: str,
        **named: str | None,
    ) -> VectorSpace:
        """Take a seeded sample of all passages; `named` are the fields of a collection."""
        rows = np.random.default_rng(0).permutation(len(ids))[:_SAMPLE]
        sample = [ids[row] for row in rows.tolist()]
        return cls(sample, vectors[rows], similarity, len(ids), place, **named)

    def save(self, folder: Path) -> None:
        """Write `space.safetensors` into a model's folder."""
        about = {k: v for k, v in vars(self).items() if k != "vectors"} | {"ids": list(self.ids)}
        if not self.tenant:
            del about["tenant"]
        # One metadata value: several would be written in any order, so equal spaces could differ.
        save_file(
            {"vectors": np.ascontiguousarray(self.vectors)},
            folder / _FILE,
            metadata={"space": json.dumps(about)},
        )

    @classmethod
    def load(cls, folder: Path) -> VectorSpace | None:
        """Read a model folder's space; None if it has none."""
        if not (folder / _FILE).exists():
            return None
        with safe_open(folder / _FILE, framework="numpy") as file:
            about, vectors = json.loads(file.metadata()["space"]), file.get_tensor("vectors")
        return cls(vectors=vectors, **about)

    def check(
        self, place: str, similarity: str, vectors_of: Callable[[Sequence[str]], np.ndarray]
    ) -> None:
        """Raise InputError, with both places, for other vectors than the encoder was adapted to.

        `similarity` is how the vectors at `place` compare. `vectors_of` returns the vectors of
        ids, float32 [ids, dimension], and may raise InputError for a missing one.
        """
        if self.similarity == "dot" and similarity == "cosine":
            raise self.refusal(place, "which compares by cosine")
        try:
            found = vectors_of(self.ids)
        except InputError as error:
            raise self.refusal(place, str(error)) from None
        if found.shape != self.vectors.shape:
            raise self.refusal(
                place,
                f"its vectors have {found.shape[1]} dimensions, and these {self.vectors.shape[1]}",
            )
        similar = cosines(found, self.vectors)
        if not similar.min() >= _SAME:  # NaN too
            worst = int(similar.argmin())
            raise self.refusal(
                place,
                f"passage {self.ids[worst]!r} has another vector there, cosine "
                f"{similar[worst]:.2f}",
            )

    def refusal(self, place: str, why: str) -> InputError:
        """The error for a place whose vectors are others."""
        return InputError(
            f"this query encoder belongs to {self.place}, {self.passages:,} passages compared by "
            f"{self.similarity}, and not to {place}: adapt another to that one ({why})"
        )
