"""Vectors from Cohere's API: each text is paid for once, and a budget is never exceeded.

The API's vectors are stored in `cache_folder("cohere")` (see `vector_cache`), so a kill at any
moment loses at most the current call.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import sqlite3
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import numpy as np

from tercet.core.cache import cache_folder
from tercet.core.console import WORTH_A_BAR, console, progress
from tercet.core.extras import missing
from tercet.core.files import slug
from tercet.core.schema import InputError
from tercet.modeling.encoders.bi_encoder import Kind
from tercet.modeling.encoders.cohere_prices import (
    MODELS,
    money,
    most_tokens,
    refuse_retired,
    tokens_of,
)
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.encoders.vector_cache import LOOKED_UP_AT_ONCE, VectorCache

try:
    import cohere
    import httpx

    _INSTALLED = True
except ImportError:
    _INSTALLED = False

_MOST_TEXTS = 96  # in a call: the API's limit

_KEYS = ("CO_API_KEY", "COHERE_API_KEY")  # the SDK's own order
_INPUT_TYPES: dict[Kind, str] = {"query": "search_query", "passage": "search_document"}


class _Forecast(NamedTuple):
    """The cost of embedding texts: those not cached, their tokens, and dollars if priced."""

    texts: int
    tokens: int
    dollars: float | None


class _Answer(NamedTuple):
    rows: Any
    echo: Any  # the texts as the API read them; None or empty if not returned
    tokens: int  # billed


class _Failure(NamedTuple):
    reason: str
    passing: bool = False  # a retry may succeed
    perhaps_billed: bool = False
    wait: float | None = None  # seconds, from Retry-After


class _Stopped(Exception):
    """Encoding cannot continue; its message is fit to be shown, without key or request."""


class CohereEncoder:
    """A model behind Cohere's API; implements `tercet.core.schema.Encoder`.

    `name` is the model's, `dimension` the length of a vector, and `identity` the settings that
    vectors depend on. The API truncates texts at the model's limit: 512 tokens for v3, 128,000 for
    v4.

    The key is read from CO_API_KEY or COHERE_API_KEY at construction and kept only in the SDK's
    client. Without a key, cached vectors and forecasts still work.

    `dollars` is this object's budget; None is no limit. A call is sent only if its highest possible
    cost fits, and a call whose answer was lost counts with that cost. A model that is not in
    `cohere_prices.MODELS` needs `output_dimension` and, with a budget,
    `dollars_per_million_tokens`.

    A call is tried `tries` times, after `backoff` seconds and then twice as long each time, up to
    `longest_wait`. Retry-After takes precedence; if it is above `longest_wait`, the call fails.
    `base_url` defaults to CO_API_URL, and else Cohere's. Raises InputError for invalid arguments.
    """

    #: Vectors are normalised, so their dot product is the cosine.
    similarity: Similarity = "cosine"
    normalize = True

    def __init__(
        self,
        model: str,
        *,
        output_dimension: int | None = None,
        dollars: float | None = None,
        dollars_per_million_tokens: float | None = None,
        texts_per_minute: float = 2_000,
        batch_size: int = _MOST_TEXTS,
        tries: int = 8,
        backoff: float = 1.0,
        longest_wait: float = 300.0,
        timeout: float = 60.0,
        base_url: str | None = None,
    ) -> None:
        if not _INSTALLED:
            raise missing("cohere", "cohere")
        refuse_retired(model)
        widths, listed = MODELS.get(model, ((), None))
        self.name, self.dimension = model, _width(model, widths, output_dimension)
        self.identity = f"cohere {model} {self.dimension}"
        price = listed if dollars_per_million_tokens is None else dollars_per_million_tokens
        if dollars is not None and price is None:
            raise InputError(f"the price of {model!r} is not known: set dollars_per_million_tokens")
        least_of: dict[str, tuple[float, float]] = {
            "dollars": (dollars or 0, 0),
            "dollars_per_million_tokens": (price or 0, 0),
            "texts_per_minute": (texts_per_minute, 1),
            "batch_size": (batch_size, 1),
            "tries": (tries, 1),
            "backoff": (backoff, 0),
            "longest_wait": (longest_wait, 0),
            "timeout": (timeout, 1e-3),
        }
        for setting, (value, least) in least_of.items():
            if not least <= value < math.inf:
                raise InputError(f"{setting} is {value}, and can be {least} or more")
        if batch_size > _MOST_TEXTS:
            raise InputError(f"batch_size is {batch_size}, and can be {_MOST_TEXTS} at most")
        self._dollars, self._price = dollars, price
        self._rate, self._batch_size = texts_per_minute / 60, batch_size
        self._tries, self._backoff, self._longest_wait = tries, backoff, longest_wait
        # v3 has one dimension and takes no such argument.
        dimension = {} if len(widths) == 1 else {"output_dimension": self.dimension}
        self._options: dict[str, Any] = {"model": model, "truncate": "END", **dimension}
        self._variable, self._host, self._client, self._scrub = _connect(base_url, timeout)
        folder = cache_folder("cohere") / f"{slug(model)}-{self.dimension}"
        self._cache = VectorCache(folder, self.dimension)
        self._billed = self._lost = 0  # tokens: as billed, and at most for lost answers
        self._ready = 0.0  # the earliest time of the next call

    @property
    def spent(self) -> float:
        """Dollars that this object was billed, at its price; 0 if that is unknown."""
        return self._cost(self._billed)

    def forecast(self, texts: Sequence[str], kind: Kind = "passage") -> _Forecast:
        """Return the cost of embedding these texts; sends nothing and needs no key."""
        _check(texts, kind)
        new: set[bytes] = set()
        tokens = 0
        with self._cache.open() as db:
            for start in range(0, len(texts), LOOKED_UP_AT_ONCE):
                chunk = texts[start : start + LOOKED_UP_AT_ONCE]
                keys = {self._key(text, kind): text for text in chunk}
                missing = keys.keys() - new - self._cache.get(db, keys).keys()
                tokens += sum(tokens_of(keys[key]) for key in missing)
                new |= missing
        return _Forecast(len(new), tokens, None if self._price is None else self._cost(tokens))

    def price(self, texts: Sequence[str]) -> float | None:
        """Mean dollars of a text, by an estimate of its tokens; None if the price is unknown."""
        if self._price is None or not texts:
            return None
        return self._cost(sum(map(tokens_of, texts))) / len(texts)

    def check_means(self, texts: Mapping[Kind, Sequence[str]]) -> _Forecast:
        """Return the cost of embedding these texts, and check it against key and budget.

        Raises InputError, before anything is sent or paid for, if either does not suffice.
        """
        parts = [self.forecast(some, kind) for kind, some in texts.items()]
        count, tokens = sum(part.texts for part in parts), sum(part.tokens for part in parts)
        price = None if self._price is None else self._cost(tokens)
        if count and self._client is None:
            raise InputError(
                f"{self.name}: {count:,} texts have no vector in {self._cache.file} yet, and there "
                f"is no key to embed them with: set {self._variable}"
            )
        if self._dollars is not None and (price or 0) > self._dollars - self.spent:
            raise InputError(
                f"{self.name}: {count:,} texts cost about {money(price or 0)}, and the budget is "
                f"{money(self._dollars)}: raise it, or embed fewer"
            )
        return _Forecast(count, tokens, price)

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
        self, texts: Sequence[str], kind: Kind, *, show_progress: str | None = None
    ) -> np.ndarray:
        """float32 [len(texts), dimension], in the order given; buys vectors that are not cached.

        Raises InputError for an empty text, before anything is sent. Raises it at the end of the
        budget, for an answer that does not match the texts, and for a call that fails for good;
        all valid answers are then in the cache.
        """
        _check(texts, kind)
        vectors = np.empty((len(texts), self.dimension), dtype=np.float32)
        shown = show_progress is not None and len(texts) >= WORTH_A_BAR
        unit = "queries" if kind == "query" else "passages"
        bar = progress(show_progress or "", len(texts), unit, shown=shown)
        try:
            with self._cache.open() as db, bar as advance:
                for positions, vector in self._found(db, texts, kind):
                    vectors[positions] = vector / np.linalg.norm(vector.astype(np.float64))
                    advance(len(positions))
            return vectors
        except _Stopped as stopped:
            reason = str(stopped)
        left, _, dollars = self.forecast(texts, kind)
        price = "" if dollars is None else f", for about {money(dollars)}"
        raise InputError(
            f"{self.name}: {reason}. Of {len(texts):,} texts {left:,} have no vector in "
            f"{self._cache.file} yet: another run goes on with these{price}"
        )

    def __repr__(self) -> str:
        return f"CohereEncoder({self.name!r}, output_dimension={self.dimension})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a CohereEncoder is not copied or pickled: its key would go with it")

    def _key(self, text: str, kind: Kind) -> bytes:
        value = [self.name, self.dimension, _INPUT_TYPES[kind], text]
        return hashlib.sha256(json.dumps(value).encode()).digest()

    def _cost(self, tokens: float) -> float:
        return tokens / 1e6 * (self._price or 0.0)

    def _found(
        self, db: sqlite3.Connection, texts: Sequence[str], kind: Kind
    ) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield each vector with the positions of its text; all calls but the last are full."""
        waiting: dict[bytes, list[int]] = {}
        for start in range(0, len(texts), LOOKED_UP_AT_ONCE):
            end = min(start + LOOKED_UP_AT_ONCE, len(texts))
            for position in range(start, end):
                waiting.setdefault(self._key(texts[position], kind), []).append(position)
            for key, vector in self._cache.get(db, waiting).items():
                yield waiting.pop(key), vector
            while len(waiting) >= (self._batch_size if end < len(texts) else 1):
                batch = {k: texts[waiting[k][0]] for k in islice(waiting, self._batch_size)}
                for key, vector in self._bought(db, batch, kind).items():
                    yield waiting.pop(key), vector

    def _bought(
        self, db: sqlite3.Connection, batch: Mapping[bytes, str], kind: Kind
    ) -> dict[bytes, np.ndarray]:
        time.sleep(max(0.0, self._ready - time.monotonic()))
        with self._cache.locked(db):
            found = self._cache.get(db, batch)  # another process may have bought them
            missing = {key: text for key, text in batch.items() if key not in found}
            if not missing:
                return found
            self._ready = time.monotonic() + len(missing) / self._rate
            sent = list(missing.values())
            answer = self._call(sent, kind)
            self._billed += answer.tokens
            vectors, fault = self._read(answer, sent)
            bought = {} if fault else dict(zip(missing, vectors, strict=True))
            self._cache.add(db, bought, (len(sent), answer.tokens, self._cost(answer.tokens)))
        if fault:  # only now: its bill is stored, as it was paid for
            raise _Stopped(f"{self._host} {fault}; nothing of that answer is kept")
        return found | bought

    def _call(self, texts: list[str], kind: Kind) -> _Answer:
        """Return the API's answer, after retries if necessary. Raises _Stopped."""
        if self._client is None:
            raise _Stopped(f"there is no key to embed new texts with: set {self._variable}")
        reason = ""
        for attempt in range(self._tries):
            self._afford(texts)
            outcome = self._attempt(texts, kind)
            if isinstance(outcome, _Answer):
                return outcome
            reason, passing, perhaps_billed, retry_after = outcome
            if perhaps_billed:
                self._lost += most_tokens(texts)
            if not passing:
                raise _Stopped(reason)
            if retry_after and retry_after > self._longest_wait:
                raise _Stopped(f"{reason} and asks to wait {retry_after:,.0f} s")
            if attempt + 1 < self._tries:
                wait = retry_after or min(self._backoff * 2**attempt, self._longest_wait)
                if wait >= 5:
                    console.print(f"  {reason}: again in {wait:.0f} s", markup=False)
                time.sleep(wait)
        raise _Stopped(f"{reason}, {self._tries} times in a row")

    def _attempt(self, texts: list[str], kind: Kind) -> _Answer | _Failure:
        # The SDK's exceptions refer to requests, which hold the key: they become plain messages.
        try:
            response: Any = self._client.embed(
                texts=texts,
                input_type=_INPUT_TYPES[kind],
                embedding_types=["float"],
                request_options={"max_retries": 0},
                **self._options,
            )
        except Exception as error:
            return self._failure(error)
        rows = getattr(getattr(response, "embeddings", None), "float_", None)
        units = getattr(getattr(response, "meta", None), "billed_units", None)
        said: Any = getattr(units, "input_tokens", None)
        sane = isinstance(said, int | float) and 0 <= said < math.inf
        tokens = math.ceil(said) if sane else most_tokens(texts)
        return _Answer(rows, getattr(response, "texts", None), tokens)

    def _failure(self, error: Exception) -> _Failure:
        status = getattr(error, "status_code", None)
        if isinstance(error, httpx.RequestError) or status in range(200, 300):
            what = "cut short" if status else type(error).__name__
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return _Failure(f"no whole answer from {self._host} ({what})", True, sent)
        if status is None:
            return _Failure(self._scrub(f"{type(error).__name__}: {error}"))
        if status in (401, 403, 498):
            return _Failure(f"{self._host} refuses the key in {self._variable} ({status})")
        body = getattr(error, "body", None)
        message = str(body.get("message") or "") if isinstance(body, dict) else ""
        message = self._scrub(" ".join(message.split()))[:200]
        reason = f"{self._host} answers {status}" + (f" ({message})" if message else "")
        passing = status in (408, 409, 429) or status >= 500
        # Behind a gateway's error the call may have been processed and billed.
        perhaps_billed = status in (408, 502, 504)
        return _Failure(reason, passing, perhaps_billed, _retry_after(error))

    def _afford(self, texts: Sequence[str]) -> None:
        """Raise _Stopped if a call could exceed the budget."""
        most, lost = self._cost(most_tokens(texts)), self._cost(self._lost)
        if self._dollars is not None and self.spent + lost + most > self._dollars:
            perhaps = f" and up to {money(lost)} for answers that were lost" if lost else ""
            raise _Stopped(
                f"the budget of {money(self._dollars)} could be passed: {money(self.spent)} is "
                f"spent{perhaps}, and the next {len(texts)} texts cost at most {money(most)}"
            )

    def _read(self, answer: _Answer, texts: list[str]) -> tuple[np.ndarray, str]:
        """Return float32 vectors, and a message if the answer is invalid."""
        due = (len(texts), self.dimension)
        try:
            with np.errstate(over="ignore"):  # overflow gives infinity, which is refused
                vectors = np.array(answer.rows, dtype=np.float64).astype("<f4")
        except (TypeError, ValueError):
            return np.empty(0), f"answered no {due[0]} vectors of {due[1]} numbers"
        if vectors.shape != due:
            shape = " x ".join(map(str, vectors.shape)) or "no"
            return vectors, f"answered {shape} numbers where {due[0]} x {due[1]} were due"
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
        wrong = ~(np.isfinite(norms) & (norms > 0))
        if wrong.any():
            begins = texts[int(wrong.argmax())][:60]
            return vectors, f"answered a vector that is not finite or is zero, for {begins!r}"
        if answer.echo and not _echoes(answer.echo, texts):
            return vectors, "answered for other texts than were sent, or in another order"
        return vectors, ""


def _width(model: str, widths: tuple[int, ...], dimension: int | None) -> int:
    width = dimension if dimension is not None else next(iter(widths), None)
    if width is None:
        known = ", ".join(MODELS)
        raise InputError(f"model {model!r} is none of {known}: set its output_dimension")
    if width < 1 or (widths and width not in widths):
        choices = ", ".join(map(str, widths)) or "1 or more"
        raise InputError(f"model {model!r}: output_dimension is {width}, and can be {choices}")
    return width


def key_variable() -> str | None:
    """Return the environment variable that holds a key, if one does."""
    return next((name for name in _KEYS if os.environ.get(name, "").strip()), None)


def _connect(base_url: str | None, timeout: float) -> tuple[str, str, Any, Callable[[str], str]]:
    """Return the key's variable, the host, a client (None without a key) and a key redactor."""
    url = base_url or os.environ.get("CO_API_URL") or "https://api.cohere.com"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError("base_url, or CO_API_URL, is no address that begins https://")
    variable = key_variable()
    if variable is None:
        return _KEYS[0], parts.hostname, None, str
    key = os.environ[variable].strip()  # a trailing line feed would break the header
    if not all("!" <= letter <= "~" for letter in key):
        raise InputError(f"{variable} holds a blank or another character that is in no key")
    client = cohere.ClientV2(api_key=key, base_url=url, timeout=timeout)
    return variable, parts.hostname, client, lambda text: text.replace(key, "[key]")


def _check(texts: Sequence[str], kind: Kind) -> None:
    for position, text in enumerate(texts):
        if not text.strip():
            raise InputError(f"{kind} {position} is empty: it has no vector")
        try:
            text.encode()
        except UnicodeEncodeError:
            raise InputError(f"{kind} {position} holds half a surrogate pair: mend it") from None


def _retry_after(error: Exception) -> float | None:
    """Return the seconds in Retry-After, given as such or as a date; None without it."""
    headers = getattr(error, "headers", None) or {}
    value = next((headers[name] for name in headers if name.lower() == "retry-after"), "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except ValueError:
            return None
    return seconds if 0 < seconds < math.inf else None


def _echoes(echo: Sequence[str], texts: Sequence[str]) -> bool:
    """Whether the echo is of these texts in order: v3 echoes lower case, and may cut them."""
    if list(echo) == list(texts):
        return True
    if len(echo) != len(texts) or sorted(echo) == sorted(texts):
        return False
    pairs = ((_folded(ours), _folded(theirs)) for ours, theirs in zip(texts, echo, strict=True))
    return all(ours.startswith(theirs) and bool(ours) == bool(theirs) for ours, theirs in pairs)


def _folded(text: str) -> str:
    """Remove case, accents, blanks and control characters."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if unicodedata.category(part)[0] not in "MZC")
