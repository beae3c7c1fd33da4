"""A language model behind an OpenAI-compatible API: `/chat/completions` and `/completions`.

Each request is paid for once: what it answers is stored by its content in a `PaidCache`.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple
from urllib.parse import urlsplit

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

_PATHS = {"messages": "/chat/completions", "prompt": "/completions"}
_AROUND = 64  # tokens of a chat template around a message, at most
#: Fields that some services refuse, in the order in which they are left out; the first by default.
_OPTIONAL = ("response_format", "top_p", "temperature", "stop", "n")
_OLD_LIMIT, _NEW_LIMIT = "max_tokens", "max_completion_tokens"


class Completion(NamedTuple):
    """What was answered to a request: a text for each choice, and why each ended."""

    texts: list[str]
    ends: list[str]
    #: As the service told it, or estimated.
    usage: Usage
    #: Seconds that the call took when it was made.
    seconds: float


class Completions:
    """The models of an endpoint, within one budget.

    `dollars` and `tokens` are the budget of this object, None is no limit; prices are in dollars
    per million tokens. The key is that of the environment variable `key_variable`.
    """

    def __init__(
        self,
        model: str,
        *,
        endpoint: str,
        key_variable: str = KEY_VARIABLE,
        concurrency: int = 8,
        requests_per_minute: float | None = None,
        dollars: float | None = None,
        tokens: int | None = None,
        dollars_per_million_read: float | None = None,
        dollars_per_million_written: float | None = None,
        patience: Patience | None = None,
        timeout: float = 600.0,
    ) -> None:
        """Raises InputError for invalid arguments; sends nothing."""
        self.model, self.endpoint, self.concurrency = model, endpoint, concurrency
        self.prices = Prices(read=dollars_per_million_read, written=dollars_per_million_written)
        if dollars is not None and None in (self.prices.read, self.prices.written):
            raise InputError(
                f"a budget in dollars needs the prices of {model!r}: set dollars_per_million_read "
                "and dollars_per_million_written, 0 for what costs nothing"
            )
        check_settings({"concurrency": (concurrency, 1)})
        self.connection = Connection(endpoint, key_variable, place="the endpoint", timeout=timeout)
        account = Account(self.prices, dollars=dollars, tokens=tokens)
        self._caller = Caller(account, patience or Patience(), per_minute=requests_per_minute)
        folder = cache_folder("writers") / slug(f"{urlsplit(endpoint).netloc}-{model}")
        self.cache = PaidCache(folder, "answer")
        self._shop = Shop(self.cache, self._caller, self._send, concurrency=concurrency)
        self._refused: set[str] = set()
        self._lock = threading.Lock()

    @property
    def spent(self) -> float:
        """Dollars that this object was billed; 0 without prices."""
        return self._caller.account.spent

    def answers(self, requests: Sequence[dict[str, Any]], *, rows: int = 1) -> list[Completion]:
        """The answer of each request, a JSON body; buys those that are not in the cache.

        Each is `rows` rows of progress.

        Raises InputError at the end of the budget and for a call that fails for good; all answers
        that have come are then in the cache.
        """
        keys = [key_of(self.endpoint, body) for body in requests]
        asked = dict(zip(keys, requests, strict=True))
        with self.cache.open() as db:
            found = self.cache.get(db, asked)
            orders = [{key: body} for key, body in asked.items() if key not in found]
            try:
                for bought in self._shop.buy(db, orders):
                    found |= bought
                    tokens = sum(_kept(v).usage.tokens for v in bought.values())
                    count_batch(rows * len(bought), tokens)
            except Stopped as stopped:
                left = len(asked) - len(found)
                raise InputError(
                    f"{self.model}: {stopped}. Of {len(asked):,} requests {left:,} have no answer "
                    f"in {self.cache.file} yet: another run goes on with these"
                ) from None
        return [_kept(found[key]) for key in keys]

    def _send(self, order: Order) -> Delivery:
        ((key, body),) = order.items()
        start = time.monotonic()
        (texts, ends), told, usage = self._answer(body)
        kept = {"texts": texts, "ends": ends, "read": told.read, "written": told.written}
        kept["seconds"] = round(time.monotonic() - start, 3)
        return {key: json.dumps(kept).encode()}, usage, ""

    def _answer(self, body: Mapping[str, Any]) -> tuple[Any, Usage, Usage]:
        """Texts and ends; their usage, estimated if it was not told; and what is booked."""
        prompt = _prompt(body)
        limit = int(body.get(_OLD_LIMIT, 0)) * int(body.get("n", 1))
        most = Usage(most_tokens([prompt]) + _AROUND, limit)
        while True:
            sent = self._accepted(body)
            try:
                attempt = partial(self._attempt, sent)
                (found, told), usage = self._caller.call(attempt, most, "request")
                break
            except Refused as refused:
                culprit = _culprit(refused.failure, sent)
                if culprit is None:
                    raise
                with self._lock:
                    self._refused.add(culprit)
        estimate = Usage(tokens_of(prompt), sum(map(tokens_of, found[0])))
        return found, told or estimate, usage

    def _accepted(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The request without what the service has refused before."""
        with self._lock:
            refused = set(self._refused)
        sent = {name: value for name, value in body.items() if name not in refused}
        if _OLD_LIMIT in refused and _OLD_LIMIT in body:
            sent[_NEW_LIMIT] = body[_OLD_LIMIT]
        return sent

    def _attempt(self, body: dict[str, Any]) -> Reply | Failure:
        path = next(path for name, path in _PATHS.items() if name in body)
        answer = self.connection.post(path, body)
        if isinstance(answer, Failure):
            return answer
        host = self.connection.host
        choices = answer.get("choices") if isinstance(answer, dict) else None
        if not isinstance(choices, list) or not choices:
            return Failure(f"{host} answers without a completion", True, True)
        texts, ends = [_text(each) for each in choices], [_end(each) for each in choices]
        usage = _usage(answer.get("usage"))
        return Reply(((texts, ends), usage), usage)


def _kept(value: bytes) -> Completion:
    kept = json.loads(value)
    usage = Usage(kept["read"], kept["written"])
    return Completion(kept["texts"], kept["ends"], usage, kept["seconds"])


def _prompt(body: Mapping[str, Any]) -> str:
    messages = body.get("messages")
    if messages is None:
        return str(body["prompt"])
    return "\n".join(str(message["content"]) for message in messages)


def _culprit(failure: Failure, sent: Mapping[str, Any]) -> str | None:
    """The field of a request that a service refuses, by its message; None if it is another."""
    if failure.status not in (400, 422):
        return None
    told = failure.reason.lower()
    if _OLD_LIMIT in sent and _NEW_LIMIT in told:
        return _OLD_LIMIT
    named = [name for name in _OPTIONAL if name in sent and _names(told, name)]
    if named:
        return named[0]
    return "response_format" if "response_format" in sent else None


def _names(told: str, field: str) -> bool:
    """Whether a message names a field; a name that is a common word too stands in quotes there."""
    quoted = f"""['"`]{field}['"`]"""
    return bool(re.search(quoted if field in ("n", "stop") else rf"\b{field}\b", told))


def _text(choice: Any) -> str:
    """The text of a choice; what the model thought stands in other fields, and is left out."""
    if not isinstance(choice, dict):
        return ""
    message = choice.get("message")
    content = message.get("content") if isinstance(message, dict) else choice.get("text")
    if isinstance(content, list):
        parts = [each.get("text") for each in content if isinstance(each, dict)]
        content = "".join(part for part in parts if isinstance(part, str))
    return content if isinstance(content, str) else ""


def _end(choice: Any) -> str:
    return str(choice.get("finish_reason") or "") if isinstance(choice, dict) else ""


def _usage(told: Any) -> Usage | None:
    """The tokens of an answer; None if the service does not tell them."""
    if not isinstance(told, dict):
        return None
    read, written = count_of(told.get("prompt_tokens")), count_of(told.get("completion_tokens"))
    if read is None or written is None:
        return None
    return Usage(read, written) if read or written else None
