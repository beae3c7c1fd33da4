"""Vectors from any service that speaks OpenAI's `/embeddings`: OpenAI, Azure, TEI, vLLM, Ollama."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from tercet.core.cache import cache_folder
from tercet.core.files import slug
from tercet.core.schema import InputError
from tercet.modeling.api_account import (
    Account,
    Prices,
    Stopped,
    Usage,
    check_settings,
    count_of,
    cut_to,
    most_tokens,
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
from tercet.modeling.encoders.api_encoder import ApiEncoder, key_of, read_vectors
from tercet.modeling.encoders.bi_encoder import Kind
from tercet.modeling.encoders.st_format import Similarity
from tercet.modeling.paid_cache import PaidCache

#: OpenAI's models -> their dimension, tokens that they read of a text, and dollars per million
#: tokens. Prices as of 2026-11.
MODELS = {
    "text-embedding-3-small": (1536, 8_191, 0.02),
    "text-embedding-3-large": (3072, 8_191, 0.13),
    "text-embedding-ada-002": (1536, 8_191, 0.10),
}
#: What OpenAI takes in a call, by the highest count of tokens that texts may have.
_BATCH, _BATCH_TOKENS = 256, 100_000
#: Words in a refusal of a batch that is too large for the server.
_TOO_LARGE = ("batch", "too many", "too large", "maximum", "exceed")
_PROBE = "length of a vector"


class OpenAIEncoder(ApiEncoder):
    """A model behind an OpenAI-compatible `/embeddings`.

    `endpoint` is the address before `/embeddings`, such as http://localhost:8080/v1. The key is
    that of the environment variable `key_variable`; without one nothing is sent as a key.
    `dimension` None is the model's own, which one short text tells; another one is asked of the
    service. `query_request` and `passage_request` are further fields of each request, where the
    service tells them apart, such as {"input_type": "query"}. Texts get their prompt here, and are
    cut to about `max_length` tokens, by an estimate.

    A call holds at most `batch_size` texts and `batch_tokens` tokens, by their highest count; a
    batch that the server refuses as too large is halved, and so are those after it.
    """

    def __init__(
        self,
        model: str,
        *,
        endpoint: str,
        dimension: int | None = None,
        similarity: Similarity = "cosine",
        query_prompt: str = "",
        passage_prompt: str = "",
        query_request: Mapping[str, Any] | None = None,
        passage_request: Mapping[str, Any] | None = None,
        max_length: int | None = None,
        key_variable: str = KEY_VARIABLE,
        dollars: float | None = None,
        dollars_per_million_tokens: float | None = None,
        batch_size: int = _BATCH,
        batch_tokens: int = _BATCH_TOKENS,
        concurrency: int = 4,
        texts_per_minute: float | None = None,
        patience: Patience | None = None,
        timeout: float = 120.0,
    ) -> None:
        """Raises InputError for invalid arguments; sends nothing."""
        own, longest, listed = MODELS.get(model, (None, None, None))
        self.name, self.endpoint, self.similarity = model, endpoint, similarity
        self.key_variable = key_variable
        self.prompts: dict[Kind, str] = {"query": query_prompt, "passage": passage_prompt}
        self.requests: dict[Kind, dict[str, Any]] = {
            "query": dict(query_request or {}),
            "passage": dict(passage_request or {}),
        }
        self._own, self._asked = own, dimension
        self._longest = max_length or longest
        price = listed if dollars_per_million_tokens is None else dollars_per_million_tokens
        if dollars is not None and price is None:
            raise InputError(f"the price of {model!r} is not known: set dollars_per_million_tokens")
        check_settings(
            {"dimension": (1 if dimension is None else dimension, 1), "batch_size": (batch_size, 1)}
            | {"batch_tokens": (batch_tokens, 1), "concurrency": (concurrency, 1)}
        )
        self._batch_size, self._batch_tokens = batch_size, batch_tokens
        self._connection = Connection(endpoint, key_variable, place="the endpoint", timeout=timeout)
        self.identity = f"openai {endpoint} {model} {dimension or ''}".rstrip()
        folder = cache_folder("openai") / slug(f"{urlsplit(endpoint).netloc}-{model}")
        self._cache = PaidCache(folder, "vector")
        account = Account(Prices(read=price), dollars=dollars)
        self._caller = Caller(account, patience or Patience(), per_minute=texts_per_minute)
        self._shop = Shop(self._cache, self._caller, self._send, concurrency=concurrency)
        self._lock = threading.Lock()

    @property
    def dimension(self) -> int:
        """Length of a vector; one short text is embedded where it is not known."""
        return self._asked or self._native

    @property
    def _native(self) -> int:
        """The dimension of the model's own vectors."""
        if self._own is None:
            self._own = len(self._probed()) // 4
        return self._own

    def _known_native(self) -> int | None:
        """The same, if it is known without asking the service."""
        if self._own is None:
            with self._cache.open() as db:
                found = self._cache.get(db, [self._probe_key])
            self._own = len(found[self._probe_key]) // 4 if found else None
        return self._own

    @property
    def _probe_key(self) -> bytes:
        return key_of(self.endpoint, self.name, None, _PROBE)

    def encode(
        self, texts: str | Sequence[str], kind: Kind = "query", *, show_progress: str | None = None
    ) -> np.ndarray:
        """As `ApiEncoder.encode`; the model's own dimension is found out first."""
        _ = self._native if texts else None
        return super().encode(texts, kind, show_progress=show_progress)

    def _probed(self) -> bytes:
        """The vector of a short text in the model's own dimension; bought once."""
        try:
            with self._cache.open() as db:
                for found in self._shop.buy(db, [{self._probe_key: (_PROBE, None)}]):
                    if found:  # an answer that is refused delivers nothing, and then raises
                        return found[self._probe_key]
        except Stopped as stopped:
            raise InputError(f"{self.name}: {stopped}") from None
        raise AssertionError("a shop delivers or raises")

    @property
    def _dimensions(self) -> int | None:
        """What the service is asked for; None for the model's own, which most can do alone."""
        return self._asked if self._asked not in (None, self._native) else None

    def check(self) -> None:
        """Raise InputError if a key is lacking, or the service does not answer or refuses it."""
        if self._needs_key:
            raise InputError(f"{self.name} embeds every query: set {self._needs_key}")
        self._connection.check()

    def settings(self) -> dict[str, Any]:
        """The address, and how texts are read; of the key the name of its variable alone."""
        settings: dict[str, Any] = {"endpoint": self.endpoint, "similarity": self.similarity}
        settings |= {f"{kind}_prompt": prompt for kind, prompt in self.prompts.items()}
        settings |= {f"{kind}_request": given for kind, given in self.requests.items()}
        return settings | {"max_length": self._longest, "key_variable": self.key_variable}

    @property
    def _needs_key(self) -> str:
        """OpenAI's own service takes no text without a key; others may."""
        cloud = self._connection.host.endswith((".openai.com", ".azure.com"))
        return self.key_variable if cloud and not self._connection.has_key else ""

    def _key(self, text: str, kind: Kind) -> bytes:
        width = self._asked if self._asked != self._known_native() else None
        own = [self.requests[kind]] if self.requests[kind] else []
        return key_of(self.endpoint, self.name, width, self._read(text, kind), *own)

    def _read(self, text: str, kind: Kind) -> str:
        """A text as the model reads it."""
        whole = self.prompts[kind] + text
        return cut_to(whole, self._longest) if self._longest else whole

    def _batches(self, waiting: Mapping[bytes, Any], *, last: bool) -> Iterator[list[bytes]]:
        batch, tokens = list[bytes](), 0
        for key, (text, kind) in waiting.items():
            more = most_tokens([self._read(text, kind)])
            if batch and (len(batch) >= self._batch_size or tokens + more > self._batch_tokens):
                yield batch
                batch, tokens = [], 0
            batch.append(key)
            tokens += more
        if batch and last:
            yield batch

    def _send(self, order: Order) -> Delivery:
        """Embed an order: (text, kind) by key; kind None is the probe, without a prompt."""
        if self._needs_key:
            raise Stopped(f"there is no key to embed new texts with: set {self._needs_key}")
        probe = any(kind is None for _, kind in order.values())
        texts = [text if kind is None else self._read(text, kind) for text, kind in order.values()]
        if len(texts) > self._batch_size:  # which another call has found out meanwhile
            return self._halved(order)
        kind = next(iter(order.values()))[1]
        body: dict[str, Any] = {"model": self.name, "input": texts, "encoding_format": "float"}
        body |= {} if probe else self.requests[kind]
        if not probe and self._dimensions:
            body["dimensions"] = self._dimensions
        try:
            answer, usage = self._caller.call(
                lambda: self._attempt(body),
                Usage(read=most_tokens(texts)),
                f"{len(texts)} texts",
                units=len(texts),
            )
        except Refused as refused:
            if not _too_large(refused.failure):
                raise
            if len(texts) == 1:
                begins = texts[0][:60]
                raise Stopped(f"{refused}, for {begins!r}: set model.max_length") from None
            with self._lock:
                self._batch_size = min(self._batch_size, max(1, len(texts) // 2))
            return self._halved(order)
        vectors, fault = self._vectors(answer, texts, probe=probe)
        if fault:
            host = self._connection.host
            return {}, usage, f"{host} {fault}; nothing of that answer is kept"
        return {key: row.tobytes() for key, row in zip(order, vectors, strict=True)}, usage, ""

    def _halved(self, order: Order) -> Delivery:
        keys = list(order)
        answers, usage = dict[bytes, bytes](), Usage()
        for part in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
            found, used, fault = self._send({key: order[key] for key in part})
            answers, usage = {**answers, **found}, usage.plus(used)
            if fault:
                return answers, usage, fault
        return answers, usage, ""

    def _attempt(self, body: dict[str, Any]) -> Reply | Failure:
        answer = self._connection.post("/embeddings", body)
        if isinstance(answer, Failure):
            return answer
        told = answer.get("usage") if isinstance(answer, dict) else None
        read = told.get("prompt_tokens", told.get("total_tokens")) if isinstance(told, dict) else 0
        count = count_of(read)  # Ollama and others tell nothing, or zero
        return Reply(answer, Usage(read=count) if count else None)

    def _vectors(self, answer: Any, texts: Sequence[str], *, probe: bool) -> tuple[np.ndarray, str]:
        rows = _rows(answer, len(texts))
        if rows is None:
            return np.empty(0), f"answered no vectors of {len(texts)} texts"
        if not probe:
            return read_vectors(rows, texts, self.dimension)
        return read_vectors(rows, texts, len(rows[0]) if isinstance(rows[0], list) else 1)


def _too_large(failure: Failure) -> bool:
    """Whether a server refuses a batch for its size."""
    told = failure.reason.lower()
    refused = failure.status in (400, 422) and any(word in told for word in _TOO_LARGE)
    return failure.status == 413 or refused


def _rows(answer: Any, count: int) -> list[Any] | None:
    """The vectors of an answer in the order of the texts; None if there are not as many."""
    data = answer.get("data") if isinstance(answer, dict) else None
    if not isinstance(data, list) or len(data) != count:
        return None
    rows: dict[int, Any] = {}
    for place, each in enumerate(data):
        if not isinstance(each, dict) or not isinstance(each.get("index", place), int):
            return None
        rows[each.get("index", place)] = each.get("embedding")
    return [rows[i] for i in range(count)] if rows.keys() == set(range(count)) else None
