"""The space that a query encoder belongs to: whose vectors, and how to know them again."""

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

FILE = "space.safetensors"
SAMPLE = 16  # passages whose vectors are kept
#: Cosine of a vector with itself as a server keeps it: at length 1, or in half precision.
SAME = 0.999


@dataclass(frozen=True)
class VectorSpace:
    """A sample of passages with their vectors, float32 [sample, dimension], and what they are of.

    `similarity` is how vectors compare, `passages` how many there are, `place` in words where; of
    a live `collection`, `vector` and property `id` are as in `IndexSettings`.
    """

    ids: Sequence[str]
    vectors: np.ndarray
    similarity: Similarity
    passages: int
    place: str
    collection: str | None = None
    vector: str | None = None
    id: str | None = None

    @classmethod
    def of(
        cls,
        ids: Sequence[str],
        vectors: Vectors,
        similarity: Similarity,
        place: str,
        **named: str | None,
    ) -> VectorSpace:
        """A seeded sample of all passages; `named` are `collection`, `vector`, `id`."""
        rows = np.random.default_rng(0).permutation(len(ids))[:SAMPLE]
        sample = [ids[row] for row in rows.tolist()]
        return cls(sample, vectors[rows], similarity, len(ids), place, **named)

    def save(self, folder: Path) -> None:
        """Write `space.safetensors` into a model's folder."""
        about = {k: v for k, v in vars(self).items() if k != "vectors"} | {"ids": list(self.ids)}
        # One value: several are written in any order, and equal spaces would be unequal files.
        save_file(
            {"vectors": np.ascontiguousarray(self.vectors)},
            folder / FILE,
            metadata={"space": json.dumps(about)},
        )

    @classmethod
    def load(cls, folder: Path) -> VectorSpace | None:
        """The space of a model's folder; None if it belongs to none."""
        if not (folder / FILE).exists():
            return None
        with safe_open(folder / FILE, framework="numpy") as file:
            about, vectors = json.loads(file.metadata()["space"]), file.get_tensor("vectors")
        return cls(vectors=vectors, **about)

    def check(
        self, place: str, similarity: str, vectors_of: Callable[[Sequence[str]], np.ndarray]
    ) -> None:
        """Refuse vectors that are not those that the encoder was adapted to.

        They are compared by `similarity`. `vectors_of` gives the vectors of ids, float32 [ids,
        dimension], and may raise InputError for one that is not there. Raises InputError with both
        places.
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
        same = cosines(found, self.vectors)
        if same.min() < SAME:
            worst = int(same.argmin())
            raise self.refusal(
                place,
                f"passage {self.ids[worst]!r} has another vector there, cosine {same[worst]:.2f}",
            )

    def refusal(self, place: str, why: str) -> InputError:
        """What is said of a place that it does not belong to."""
        return InputError(
            f"this query encoder belongs to {self.place}, {self.passages:,} passages compared by "
            f"{self.similarity}, and not to {place}: adapt another to that one ({why})"
        )
