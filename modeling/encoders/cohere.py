"""Vectors from Cohere's API, by Cohere's own library; see `api_encoder` and `api_client`."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import httpx

from tercet.core.cache import cache_folder
from tercet.core.extras import missing
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
)
from tercet.modeling.api_client import Caller, Failure, Patience, Reply, is_spent, retry_after
from tercet.modeling.api_shop import Delivery, Order, Shop
from tercet.modeling.encoders.api_encoder import ApiEncoder, full_batches, key_of, read_vectors
from tercet.modeling.encoders.bi_encoder import Kind
from tercet.modeling.encoders.cohere_prices import MODELS, refuse_retired
from tercet.modeling.paid_cache import PaidCache

try:
    import cohere

    _INSTALLED = True
except ImportError:
    _INSTALLED = False

_MOST_TEXTS = 96  # in a call: the API's limit

_KEYS = ("CO_API_KEY", "COHERE_API_KEY")  # the SDK's own order
_INPUT_TYPES: dict[Kind, str] = {"query": "search_query", "passage": "search_document"}


class CohereEncoder(ApiEncoder):
    """A model behind Cohere's API.

    The API truncates texts at the model's limit: 512 tokens for v3, 128,000 for v4. The key is read
    from CO_API_KEY or COHERE_API_KEY at construction.

    `dollars` is this object's budget; None is no limit. A model that is not in
    `cohere_prices.MODELS` needs `output_dimension` and, with a budget,
    `dollars_per_million_tokens`. `tries`, `backoff` and `longest_wait` are those of `Patience`.
    `base_url` defaults to CO_API_URL, and else Cohere's. Raises InputError for invalid arguments.
    """

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
        self.name, self._dimension = model, _width(model, widths, output_dimension)
        self.identity = f"cohere {model} {self.dimension}"
        price = listed if dollars_per_million_tokens is None else dollars_per_million_tokens
        if dollars is not None and price is None:
            raise InputError(f"the price of {model!r} is not known: set dollars_per_million_tokens")
        check_settings(
            {
                "dollars": (dollars or 0, 0),
                "dollars_per_million_tokens": (price or 0, 0),
                "texts_per_minute": (texts_per_minute, 1),
                "batch_size": (batch_size, 1),
                "tries": (tries, 1),
                "backoff": (backoff, 0),
                "longest_wait": (longest_wait, 0),
                "timeout": (timeout, 1e-3),
            }
        )
        if batch_size > _MOST_TEXTS:
            raise InputError(f"batch_size is {batch_size}, and can be {_MOST_TEXTS} at most")
        self._batch_size = batch_size
        # v3 has one dimension and takes no such argument.
        dimension = {} if len(widths) == 1 else {"output_dimension": self.dimension}
        self._options: dict[str, Any] = {"model": model, "truncate": "END", **dimension}
        self._variable, self._host, self._client, self._scrub = _connect(base_url, timeout)
        folder = cache_folder("cohere") / f"{slug(model)}-{self.dimension}"
        self._cache = PaidCache(folder, "vector", 4 * self.dimension)
        account = Account(Prices(read=price), dollars=dollars)
        patience = Patience(tries, backoff, longest_wait)
        self._caller = Caller(account, patience, per_minute=texts_per_minute)
        self._shop = Shop(self._cache, self._caller, self._send)

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    def check(self) -> None:
        """Raise InputError if there is no key."""
        if self._needs_key:
            raise InputError(f"{self.name} embeds every query: set {self._needs_key}")

    @property
    def _needs_key(self) -> str:
        return self._variable if self._client is None else ""

    def _key(self, text: str, kind: Kind) -> bytes:
        return key_of(self.name, self.dimension, _INPUT_TYPES[kind], text)

    def _batches(self, waiting: Mapping[bytes, Any], *, last: bool) -> Iterator[list[bytes]]:
        return full_batches(waiting, self._batch_size, last=last)

    def _send(self, order: Order) -> Delivery:
        if self._client is None:
            raise Stopped(f"there is no key to embed new texts with: set {self._variable}")
        texts, kind = [text for text, _ in order.values()], next(iter(order.values()))[1]
        most, what = Usage(read=most_tokens(texts)), f"{len(texts)} texts"
        (rows, echo), usage = self._caller.call(
            lambda: self._attempt(texts, kind), most, what, units=len(texts)
        )
        vectors, fault = read_vectors(rows, texts, self.dimension)
        if not fault and echo and not _echoes(echo, texts):
            fault = "answered for other texts than were sent, or in another order"
        if fault:
            return {}, usage, f"{self._host} {fault}; nothing of that answer is kept"
        return {key: row.tobytes() for key, row in zip(order, vectors, strict=True)}, usage, ""

    def _attempt(self, texts: list[str], kind: Kind) -> Reply | Failure:
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
        read = count_of(getattr(units, "input_tokens", None))
        # The texts as the API read them; None or empty if not returned.
        echo = getattr(response, "texts", None)
        return Reply((rows, echo), None if read is None else Usage(read=read))

    def _failure(self, error: Exception) -> Failure:
        status = getattr(error, "status_code", None)
        if isinstance(error, httpx.RequestError) or status in range(200, 300):
            what = "cut short" if status else type(error).__name__
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return Failure(f"no whole answer from {self._host} ({what})", True, sent)
        if status is None:
            return Failure(self._scrub(f"{type(error).__name__}: {error}"))
        if status in (401, 403, 498):
            return Failure(f"{self._host} refuses the key in {self._variable} ({status})")
        body = getattr(error, "body", None)
        message = str(body.get("message") or "") if isinstance(body, dict) else ""
        message = self._scrub(" ".join(message.split()))[:200]
        reason = f"{self._host} answers {status}" + (f" ({message})" if message else "")
        wait = retry_after(getattr(error, "headers", None) or {})
        spent = status == 429 and wait is None and is_spent(message)
        passing = (status in (408, 409, 429) or status >= 500) and not spent
        # Behind a gateway's error the call may have been processed and billed.
        perhaps_billed = status in (408, 502, 504)
        return Failure(reason, passing, perhaps_billed, wait)


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


def _echoes(echo: Any, texts: Sequence[str]) -> bool:
    """Whether the echo is of these texts in order: v3 echoes lower case, and may cut them."""
    if not isinstance(echo, list) or not all(isinstance(each, str) for each in echo):
        return False
    if echo == list(texts):
        return True
    if len(echo) != len(texts) or sorted(echo) == sorted(texts):
        return False
    pairs = ((_folded(ours), _folded(theirs)) for ours, theirs in zip(texts, echo, strict=True))
    return all(ours.startswith(theirs) and bool(ours) == bool(theirs) for ours, theirs in pairs)


def _folded(text: str) -> str:
    """Remove case, accents, blanks and control characters."""
    parts = unicodedata.normalize("NFKD", text.casefold())
    return "".join(part for part in parts if unicodedata.category(part)[0] not in "MZC")
