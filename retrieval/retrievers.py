"""Dense retrieval: an encoder and an index, together."""

from __future__ import annotations

from collections.abc import Sequence

from tercet.core.schema import Encoder, Index, Ranking
from tercet.retrieval.latency import phase, phase_once


class DenseRetriever:
    """A `Retriever` of an encoder and an index that holds that encoder's passage vectors.

    Reports call it by `name`, or by the encoder's name if none is given. It returns at most `top_k`
    passages, however many are asked for.
    """

    def __init__(
        self, encoder: Encoder, index: Index, name: str | None = None, top_k: int | None = None
    ) -> None:
        self._top_k = top_k
        self._encoder = encoder
        self._index = index
        self._name = name

    @property
    def name(self) -> str:
        """What reports and candidate columns call it."""
        return self._encoder.name if self._name is None else self._name

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        """As `Retriever.search`."""
        key = id(self._encoder), tuple(queries)
        vectors = phase_once("encode", key, lambda: self._encoder.encode_queries(queries))
        with phase("search"):
            return self._index.search(vectors, min(k, self._top_k or k))
