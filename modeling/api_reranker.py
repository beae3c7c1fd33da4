"""A reranker behind an API as the teacher: Cohere's, or a server with the `/rerank` of TEI or vLLM.

Each pair is paid for once. Scores between 0 and 1 become log-odds, the scale of a cross-encoder's
logits.
"""

from __future__ import annotations

import math
import struct
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

import numpy as np

from tercet.core.cache import cache_folder
from tercet.core.console import count_batch
from tercet.core.files import slug
from tercet.core.schema import InputError
from tercet.modeling.api_account import (
    Account,
    Prices,
    Stopped,
    Usage,
    check_settings,
    count_of,
    most_tokens,
    tokens_of,
)
from tercet.modeling.api_client import (
    KEY_VARIABLE,
    Caller,
    Connection,
    Failure,
    Patience,
    Refused,
    Reply,
)
from tercet.modeling.api_shop import Delivery, Order, Shop
from tercet.modeling.encoders.api_encoder import key_of
from tercet.modeling.paid_cache import PaidCache

RerankApi = Literal["cohere", "tei", "vllm"]
#: Cohere's models -> dollars per thousand searches, as of 2026-11.
COHERE_PRICES = {"rerank-v3.5": 2.0, "rerank-v4.0-fast": 2.0, "rerank-v4.0-pro": 2.5}
_COHERE = "https://api.cohere.com/v2"
#: Of a search of Cohere's: passages, and tokens of a passage with its query; longer ones are more.
_PASSAGES, _CHUNK = 100, 500
_CERTAIN = 1e-7  # probabilities nearer to 0 or 1 are cut
_PAIRS_AT_ONCE = 8_192
_LARGEST = sys.float_info.max  # JSON has longer whole numbers


class _Service(NamedTuple):
    """How an API is asked."""

    passages: str  # the field of the passages
    options: Mapping[str, Any]
    most: int  # passages of a call


_SERVICES: dict[RerankApi, _Service] = {
    "cohere": _Service("documents", {}, _PASSAGES),
    "tei": _Service("texts", {"raw_scores": True, "truncate": True}, 32),
    "vllm": _Service("documents", {}, 128),
}


class ApiReranker:
    """A reranker behind an API; implements `tercet.core.schema.Teacher`.

    `api` is how the service is spoken to. The key is that of the environment variable
    `key_variable`, for Cohere CO_API_KEY. `dollars` is the budget of this object, None is no limit;
    a search is one query with up to 100 passages. A call has one query.
    """

    def __init__(
        self,
        model: str,
        *,
        api: RerankApi,
        endpoint: str | None = None,
        key_variable: str | None = None,
        dollars: float | None = None,
        dollars_per_1000_searches: float | None = None,
        concurrency: int = 4,
        patience: Patience | None = None,
        timeout: float = 120.0,
    ) -> None:
        """Raises InputError for invalid arguments; sends nothing."""
        if endpoint is None and api != "cohere":
            raise InputError(f"a reranker by {api} needs its endpoint, the address before /rerank")
        self.endpoint, self.api, self._model = endpoint or _COHERE, api, model
        listed = COHERE_PRICES.get(model) if api == "cohere" else None
        price = listed if dollars_per_1000_searches is None else dollars_per_1000_searches
        if dollars is not None and price is None:
            raise InputError(
                f"a budget in dollars needs the price of {model!r}: set dollars_per_1000_searches"
            )
        check_settings({"concurrency": (concurrency, 1)})
        self._concurrency = concurrency
        self.identity = f"{api} {self.endpoint} {model}"
        #: Counts for `tercet.core.resources`.
        self.counts: Counter[str] = Counter()
        #: Seconds of all calls when they were made, divided by those at the same time.
        self.seconds = 0.0
        self._service = _SERVICES[api]
        self._most = self._service.most
        variable = key_variable or ("CO_API_KEY" if api == "cohere" else KEY_VARIABLE)
        self.connection = Connection(self.endpoint, variable, place="the endpoint", timeout=timeout)
        self._account = Account(Prices(searches=price), dollars=dollars)
        self._caller = Caller(self._account, patience or Patience())
        folder = cache_folder("rerankers") / slug(f"{urlsplit(self.endpoint).netloc}-{model}")
        self._cache = PaidCache(folder, "score", 8)
        self._shop = Shop(self._cache, self._caller, self._send, concurrency=concurrency)

    @property
    def name(self) -> str:
        """The name of the model."""
        return self._model

    @property
    def spent(self) -> float:
        """Dollars that this object was billed; 0 without a price."""
        return self._account.spent

    def check(self) -> None:
        """Raise InputError if a key is lacking, or the service does not answer."""
        if self.api == "cohere" and not self.connection.has_key:
            raise InputError(
                f"{self.name} scores every pair: set {self.connection.variable} in the environment"
            )
        self.connection.check()

    def lengths(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """int64 [len(pairs)]: 1 each, so that the pairs of a query stay together and cost least."""
        return np.ones(len(pairs), dtype=np.int64)

    def dollars(self, queries: int, per_query: float) -> float | None:
        """The price of scoring so many passages of each of so many queries; None if unknown."""
        searches = queries * math.ceil(per_query / self._most)
        prices = self._account.prices
        return prices.cost(Usage(searches=searches)) if prices.known else None

    def score(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """float32 [len(pairs)] log-odds or logits of (query, passage) pairs, in the order given.

        Raises InputError at the end of the budget, for an answer that does not fit the passages,
        and for a call that fails for good; all valid answers are then in the cache.
        """
        keys = [key_of(self.api, self.endpoint, self.name, *pair) for pair in pairs]
        asked = dict(zip(keys, pairs, strict=True))
        self.counts["tokens"] += sum(tokens_of(query) + tokens_of(p) for query, p in pairs)
        with self._cache.open() as db:
            found = self._cache.get(db, asked)
            count_batch(len(found), 0)
            missing = {key: pair for key, pair in asked.items() if key not in found}
            try:
                for bought in self._shop.buy(db, self._orders(missing)):
                    found |= bought
                    count_batch(len(bought), 0)
            except Stopped as stopped:
                left = len(asked) - len(found)
                raise InputError(
                    f"{self.name}: {stopped}. Of {len(asked):,} pairs {left:,} have no score in "
                    f"{self._cache.file} yet: another run goes on with these"
                ) from None
        return np.array([struct.unpack("<d", found[key])[0] for key in keys], dtype=np.float32)

    def _orders(self, missing: Mapping[bytes, tuple[str, str]]) -> Iterator[Order]:
        """One query a call, with as many passages as it takes."""
        by_query = sorted(missing.items(), key=lambda item: item[1][0])
        for _, group in groupby(by_query, key=lambda item: item[1][0]):
            items = list(group)
            for start in range(0, len(items), self._most):
                yield dict(items[start : start + self._most])

    def _send(self, order: Order) -> Delivery:
        query, passages = next(iter(order.values()))[0], [passage for _, passage in order.values()]
        body = {"query": query, self._service.passages: passages, **self._service.options}
        if self.api != "tei":
            body |= {"model": self.name, "top_n": len(passages)}
        most, what = Usage(searches=_searches(query, passages)), f"{len(passages)} passages"
        start = time.monotonic()
        try:
            rows, usage = self._caller.call(lambda: self._attempt(body), most, what)
            self.seconds += (time.monotonic() - start) / self._concurrency
        except Refused as refused:
            if refused.failure.status not in (413, 422) or len(order) == 1:
                raise
            self._most = max(1, min(self._most, len(order) // 2))  # more than the server takes
            return self._halved(order)
        scores, fault = self._scores(rows, len(passages))
        if fault:
            return {}, usage, f"{self.connection.host} {fault}; nothing of that answer is kept"
        packed = (struct.pack("<d", score) for score in scores)
        return dict(zip(order, packed, strict=True)), usage, ""

    def _halved(self, order: Order) -> Delivery:
        keys, middle = list(order), len(order) // 2
        first, usage, fault = self._send({key: order[key] for key in keys[:middle]})
        if fault:
            return first, usage, fault
        second, more, fault = self._send({key: order[key] for key in keys[middle:]})
        return {**first, **second}, usage.plus(more), fault

    def _attempt(self, body: dict[str, Any]) -> Reply | Failure:
        answer = self.connection.post("/rerank", body)
        if isinstance(answer, Failure):
            return answer
        rows = answer.get("results") if isinstance(answer, dict) else answer
        return Reply(rows, _billed(answer))

    def _scores(self, rows: Any, count: int) -> tuple[list[float], str]:
        """The scores in the order of the passages, and a message if the answer is invalid."""
        name = "score" if self.api == "tei" else "relevance_score"
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            return [], f"answered no scores of {count} passages"
        found = {row["index"]: row.get(name) for row in rows if isinstance(row.get("index"), int)}
        if len(rows) != count or found.keys() != set(range(count)):
            return [], f"answered {len(found)} scores where {count} were due"
        scores = [found[i] for i in range(count)]
        if not all(type(each) in (int, float) and abs(each) <= _LARGEST for each in scores):
            return [], "answered a score that is no number"
        if self.api == "tei":
            return [float(each) for each in scores], ""
        outside = next((each for each in scores if not 0 <= each <= 1), None)
        if outside is not None:
            return [], f"answered a score of {outside}, where {self.api}'s are from 0 to 1"
        return [_log_odds(each) for each in scores], ""


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _CERTAIN), 1 - _CERTAIN)
    return math.log(inside / (1 - inside))


def _searches(query: str, passages: Sequence[str]) -> int:
    """The most searches that a call is billed as: a long passage counts as several."""
    room = max(_CHUNK // 4, _CHUNK - most_tokens([query]))
    return math.ceil(sum(math.ceil(most_tokens([p]) / room) for p in passages) / _PASSAGES)


def _billed(answer: Any) -> Usage | None:
    meta = answer.get("meta") if isinstance(answer, dict) else None
    units = meta.get("billed_units") if isinstance(meta, dict) else None
    searches = units.get("search_units") if isinstance(units, dict) else None
    count = count_of(searches)
    return None if count is None else Usage(searches=count)
