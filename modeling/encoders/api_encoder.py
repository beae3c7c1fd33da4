"""Vectors from an API: each text is paid for once, and a budget is never exceeded.

Vectors are stored in a `PaidCache`, so a kill at any moment loses at most the calls on their way.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, NoReturn

import numpy as np

from tercet.core.console import WORTH_A_BAR, progress
from tercet.core.schema import InputError
from tercet.modeling.api_account import Prices, Stopped, Usage, money, tokens_of
from tercet.modeling.api_client import Caller
from tercet.modeling.api_shop import Delivery, Order, Shop
from tercet.modeling.encoders.bi_encoder import Kind
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.paid_cache import LOOKED_UP_AT_ONCE, PaidCache


class EmbeddingForecast(NamedTuple):
    """The cost of embedding texts: those not cached, their tokens, and dollars if priced."""

    texts: int
    tokens: int
    dollars: float | None


class ApiEncoder(ABC):
    """A model behind an API; implements `tercet.core.schema.Encoder`.

    `name` is the model's, and `identity` the settings that vectors depend on. A subclass knows the
    service. The key is kept in the service's client only. Without a key, cached vectors and
    forecasts still work.
    """

    #: How vectors compare; with "cosine" they are normalised.
    similarity: Similarity = "cosine"
    name: str
    identity: str

    _caller: Caller
    _cache: PaidCache
    _shop: Shop

    @property
    def normalize(self) -> bool:
        """Whether vectors have unit length."""
        return self.similarity == "cosine"

    @property
    @abstractmethod
    def dimension(self) -> int:
        """Length of a vector."""

    @property
    @abstractmethod
    def _needs_key(self) -> str:
        """The variable of a key that is lacking, without which nothing can be bought, or ''."""

    @abstractmethod
    def _key(self, text: str, kind: Kind) -> bytes:
        """The key of a text in the cache."""

    @abstractmethod
    def _send(self, order: Order) -> Delivery:
        """Embed the texts of an order: (text, kind) by key. Raises Stopped."""

    @abstractmethod
    def _batches(self, waiting: Mapping[bytes, Any], *, last: bool) -> Iterator[list[bytes]]:
        """Split what is to be bought into calls; those that are not full wait, but for the last."""

    @abstractmethod
    def check(self) -> None:
        """Raise InputError if a key is lacking or the service does not answer; nothing is paid."""

    def settings(self) -> dict[str, Any]:
        """What `services.open_service` needs besides the model's name and dimension."""
        return {}

    @property
    def spent(self) -> float:
        """Dollars that this object was billed, at its price; 0 if that is unknown."""
        return self._caller.account.spent

    @property
    def _prices(self) -> Prices:
        return self._caller.account.prices

    def forecast(self, texts: Sequence[str], kind: Kind = "passage") -> EmbeddingForecast:
        """Return the cost of embedding these texts; sends nothing and needs no key."""
        check_texts(texts, kind)
        new: set[bytes] = set()
        tokens = 0
        with self._cache.open() as db:
            for start in range(0, len(texts), LOOKED_UP_AT_ONCE):
                chunk = texts[start : start + LOOKED_UP_AT_ONCE]
                keys = {self._key(text, kind): text for text in chunk}
                missing = keys.keys() - new - self._cache.get(db, keys).keys()
                tokens += sum(tokens_of(keys[key]) for key in missing)
                new |= missing
        return EmbeddingForecast(len(new), tokens, self._cost(tokens))

    def price(self, texts: Sequence[str]) -> float | None:
        """Mean dollars of a text, by an estimate of its tokens; None if the price is unknown."""
        dollars = self._cost(sum(map(tokens_of, texts)))
        return None if dollars is None or not texts else dollars / len(texts)

    def check_means(self, texts: Mapping[Kind, Sequence[str]]) -> EmbeddingForecast:
        """Return the cost of embedding these texts, and check it against key and budget.

        Raises InputError, before anything is sent or paid for, if either does not suffice.
        """
        parts = [self.forecast(some, kind) for kind, some in texts.items()]
        count, tokens = sum(part.texts for part in parts), sum(part.tokens for part in parts)
        price, budget = self._cost(tokens), self._caller.account.budget
        if count and self._needs_key:
            raise InputError(
                f"{self.name}: {count:,} texts have no vector in {self._cache.file} yet, and there "
                f"is no key to embed them with: set {self._needs_key}"
            )
        if budget is not None and (price or 0) > budget - self.spent:
            raise InputError(
                f"{self.name}: {count:,} texts cost about {money(price or 0)}, and the budget is "
                f"{money(budget)}: raise it, or embed fewer"
            )
        return EmbeddingForecast(count, tokens, price)

    def encode_queries(
        self, texts: Sequence[str], *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; `show_progress` titles a bar."""
        return self.encode(texts, "query", show_progress=show_progress)

    def encode_passages(
        self, texts: Sequence[str], *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; `show_progress` titles a bar."""
        return self.encode(texts, "passage", show_progress=show_progress)

    def encode(
        self, texts: str | Sequence[str], kind: Kind = "query", *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; buys vectors that are not cached.

        One text gives [dimension].

        Raises InputError for an empty text, before anything is sent. Raises it at the end of the
        budget, for an answer that does not match the texts, and for a call that fails for good;
        all valid answers are then in the cache.
        """
        if isinstance(texts, str):
            return self.encode([texts], kind)[0]
        check_texts(texts, kind)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        shown = show_progress is not None and len(texts) >= WORTH_A_BAR
        unit = "queries" if kind == "query" else "passages"
        bar = progress(show_progress or "", len(texts), unit, shown=shown)
        try:
            with self._cache.open() as db, bar as advance:
                for positions, value in self._found(db, texts, kind):
                    vectors[positions] = self._row(value)
                    advance(len(positions))
            return vectors
        except Stopped as stopped:
            reason = str(stopped)
        left, _, dollars = self.forecast(texts, kind)
        price = "" if dollars is None else f", for about {money(dollars)}"
        raise InputError(
            f"{self.name}: {reason}. Of {len(texts):,} texts {left:,} have no vector in "
            f"{self._cache.file} yet: another run goes on with these{price}"
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError(f"a {type(self).__name__} is not copied or pickled: its key would go along")

    def _row(self, value: bytes) -> np.ndarray:
        row = np.frombuffer(value, dtype="<f4")
        if len(row) != self.dimension:
            raise InputError(
                f"{self.name}: {self._cache.file} has a vector of {len(row)} numbers where "
                f"{self.dimension} are due: the service has another model now"
            )
        return row / np.linalg.norm(row.astype(np.float64)) if self.normalize else row

    def _cost(self, tokens: int) -> float | None:
        return self._prices.cost(Usage(read=tokens)) if self._prices.known else None

    def _found(
        self, db: sqlite3.Connection, texts: Sequence[str], kind: Kind
    ) -> Iterator[tuple[list[int], bytes]]:
        """Yield each vector with the positions of its text; all calls but the last are full."""
        waiting: dict[bytes, list[int]] = {}
        for start in range(0, len(texts), LOOKED_UP_AT_ONCE):
            end = min(start + LOOKED_UP_AT_ONCE, len(texts))
            for position in range(start, end):
                waiting.setdefault(self._key(texts[position], kind), []).append(position)
            for key, value in self._cache.get(db, waiting).items():
                yield waiting.pop(key), value
            asked = {key: (texts[positions[0]], kind) for key, positions in waiting.items()}
            batches = list(self._batches(asked, last=end == len(texts)))
            orders = ({key: asked[key] for key in batch} for batch in batches)
            for bought in self._shop.buy(db, orders):
                for key, value in bought.items():
                    yield waiting.pop(key), value


def full_batches(keys: Mapping[bytes, Any], size: int, *, last: bool) -> Iterator[list[bytes]]:
    """Split keys into batches of `size`; the rest is a batch if `last`."""
    left = iter(keys)
    while batch := list(islice(left, size)):
        if len(batch) == size or last:
            yield batch


def key_of(*parts: Any) -> bytes:
    """A digest of JSON values, as a key of a cache."""
    return hashlib.sha256(json.dumps(parts).encode()).digest()


def read_vectors(rows: Any, texts: Sequence[str], dimension: int) -> tuple[np.ndarray, str]:
    """Return float32 vectors, and a message if the answer is invalid."""
    due = (len(texts), dimension)
    try:
        with np.errstate(over="ignore"):  # overflow gives infinity, which is refused
            vectors = np.array(rows, dtype=np.float64).astype("<f4")
    except (OverflowError, TypeError, ValueError):
        return np.empty(0), f"answered no {due[0]} vectors of {due[1]} numbers"
    if vectors.shape != due:
        shape = " x ".join(map(str, vectors.shape)) or "no"
        return vectors, f"answered {shape} numbers where {due[0]} x {due[1]} were due"
    norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    wrong = ~(np.isfinite(norms) & (norms > 0))
    if wrong.any():
        begins = texts[int(wrong.argmax())][:60]
        return vectors, f"answered a vector that is not finite or is zero, for {begins!r}"
    return vectors, ""


def check_texts(texts: Sequence[str], kind: Kind) -> None:
    """Raise InputError for a text that has no vector."""
    for position, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{kind} {position} is empty: it has no vector")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{kind} {position} holds half a surrogate pair: mend it") from None
