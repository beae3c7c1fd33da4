"""The HTTP client of writers, embeddings and rerankers behind an API.

A call is tried again while its failure may pass, within the budget of its `Account`. The key is
read from the environment, sent in a header, and stands in no message, file, log or traceback.
"""

from __future__ import annotations

import math
import os
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple, NoReturn
from urllib.parse import urlsplit

import httpx

from tercet.core.console import console
from tercet.core.schema import InputError
from tercet.core.text import excerpt
from tercet.modeling.api_account import Account, Stopped, Usage

#: The variable of the key if a recipe names none.
KEY_VARIABLE = "OPENAI_API_KEY"
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")
_KEY_REFUSED = (401, 403, 498)
_PASSING = (408, 409, 425, 429)
#: A limit of a month, a plan or an account, which no wait of minutes lifts; unless a wait is named.
_SPENT = re.compile(
    r"insufficient_quota|current quota|/ ?month|(per|this) month|monthly|billing|credit balance|"
    r"out of credits|spend(ing)? limit",
    re.IGNORECASE,
)
_SOON = re.compile(r"(retry|try again) in|/ ?(second|minute|min)\b", re.IGNORECASE)
#: Behind a gateway's error the call may have been processed and billed.
_PERHAPS_BILLED = (408, 502, 504)


class Failure(NamedTuple):
    """A call that gave no answer."""

    reason: str
    passing: bool = False  # a retry may succeed
    perhaps_billed: bool = False
    wait: float | None = None  # seconds, from Retry-After
    status: int = 0


class Refused(Stopped):
    """A call that no other try can mend as it is."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.reason)
        self.failure = failure


class Reply(NamedTuple):
    """An answer, and its usage as the service told it; None if it told none."""

    content: Any
    usage: Usage | None


@dataclass(frozen=True)
class Patience:
    """How often and how long a call is tried.

    It is tried `tries` times, after `backoff` seconds and then twice as long each time, up to
    `longest_wait`. Retry-After takes precedence; if it is above `longest_wait`, the call fails.
    """

    tries: int = 8
    backoff: float = 1.0
    longest_wait: float = 300.0


class Caller:
    """Sends the calls of one object, from any thread, within its budget and at its pace."""

    def __init__(
        self, account: Account, patience: Patience, *, per_minute: float | None = None
    ) -> None:
        """`per_minute` are the units, such as texts, that may be sent in a minute."""
        self.account, self.patience = account, patience
        self._seconds = 60 / per_minute if per_minute else 0.0
        self._ready = 0.0  # the earliest time of the next call
        self._lock = threading.Lock()
        self._given_up = threading.Event()

    def call(
        self, attempt: Callable[[], Reply | Failure], most: Usage, what: str, units: int = 1
    ) -> tuple[Any, Usage]:
        """Return the answer and its usage, after retries if necessary. Raises Stopped.

        `most` bounds the usage of one attempt, and stands for it where the service tells none.
        """
        patience, reason = self.patience, ""
        for number in range(patience.tries):
            self._wait_for_turn(units)
            self.account.hold(most, what)
            outcome = self._tried(attempt, most)
            if isinstance(outcome, Reply):
                return outcome.content, outcome.usage or most
            reason = outcome.reason
            if not outcome.passing:
                raise Refused(outcome)
            if outcome.wait and outcome.wait > patience.longest_wait:
                raise Stopped(f"{reason} and asks to wait {outcome.wait:,.0f} s")
            if number + 1 < patience.tries:
                self._pause(outcome, number)
        raise Stopped(f"{reason}, {patience.tries} times in a row")

    def give_up(self) -> None:
        """End all waiting: calls on their way are not tried again."""
        self._given_up.set()

    def _tried(self, attempt: Callable[[], Reply | Failure], most: Usage) -> Reply | Failure:
        try:
            outcome = attempt()
        except BaseException:
            self.account.lose(most)
            raise
        if isinstance(outcome, Reply):
            self.account.settle(most, outcome.usage or most)
        elif outcome.perhaps_billed:
            self.account.lose(most)
        else:
            self.account.release(most)
        return outcome

    def _wait_for_turn(self, units: int) -> None:
        with self._lock:
            now = time.monotonic()
            turn = max(self._ready, now)
            self._ready = turn + units * self._seconds
        if turn > now:
            time.sleep(turn - now)

    def _pause(self, failure: Failure, number: int) -> None:
        patience = self.patience
        pause = failure.wait or min(patience.backoff * 2**number, patience.longest_wait)
        if failure.wait:  # the service means all callers
            with self._lock:
                self._ready = max(self._ready, time.monotonic() + failure.wait)
        if pause >= 5:
            console.print(f"  {failure.reason}: again in {pause:.0f} s")
        if self._given_up.wait(pause):
            raise Stopped(failure.reason)


class Connection:
    """The JSON API at an address, with the key of an environment variable if that is set.

    `place` is the recipe's key with the address, for messages. Raises InputError for an address
    that is none, for a key that would be sent in the clear and for one that cannot be sent.
    """

    def __init__(
        self, endpoint: str, variable: str = KEY_VARIABLE, *, place: str, timeout: float = 600.0
    ) -> None:
        url = _address(endpoint, place)
        self.variable, self.host = variable, url.hostname or ""
        if fault := _key_fault(variable, url.scheme, self.host):
            raise InputError(f"{place}: {fault}")
        self.has_key = bool(os.environ.get(variable, "").strip())
        self._base = endpoint.partition("?")[0].rstrip("/")
        self._query = url.query
        auth = _Key(variable)
        self._client = httpx.Client(timeout=httpx.Timeout(timeout, connect=30.0), auth=auth)
        self.scrub = auth.scrub

    def __reduce__(self) -> NoReturn:
        raise TypeError("a connection is not copied or pickled: its key would go with it")

    def post(self, path: str, body: Mapping[str, Any]) -> Any | Failure:
        """Send JSON to an address beneath the endpoint; the JSON that it answers, or a Failure."""
        url = self._base if self._base.endswith(path) else f"{self._base}{path}"
        url += f"?{self._query}" if self._query else ""
        # httpx's exceptions refer to requests, which hold the key: they become plain messages.
        try:
            response = self._client.post(url, json=body)
        except httpx.RequestError as error:
            sent = not isinstance(error, httpx.ConnectError | httpx.ConnectTimeout)
            return Failure(f"no whole answer from {self.host} ({type(error).__name__})", True, sent)
        except (httpx.InvalidURL, UnicodeError, ValueError) as error:
            return Failure(f"{self.host}: {self.scrub(excerpt(str(error), 200))}")
        if response.status_code != 200:
            return self._failure(response)
        try:
            return response.json()
        except (ValueError, RecursionError):
            return Failure(f"no whole answer from {self.host} (cut short)", True, True)

    def check(self, path: str = "/models") -> None:
        """Raise InputError if the host does not answer or refuses the key; nothing is paid for."""
        try:
            status = self._client.get(f"{self._base}{path}", timeout=30.0).status_code
        except httpx.HTTPError as error:
            fault = f"does not answer ({type(error).__name__}): check the endpoint and the network"
        else:
            fault = self._key_refused(status) if status in _KEY_REFUSED else ""
        if fault:
            raise InputError(f"{self.host} {fault}")

    def _key_refused(self, status: int) -> str:
        if self.has_key:
            return f"refuses the key in {self.variable} ({status})"
        return f"asks for a key ({status}): set {self.variable} in the environment"

    def _failure(self, response: httpx.Response) -> Failure:
        status = response.status_code
        if status in _KEY_REFUSED:
            return Failure(f"{self.host} {self._key_refused(status)}", status=status)
        message = self.scrub(_message(response))[:200]
        reason = f"{self.host} answers {status}" + (f" ({message})" if message else "")
        if status == 404:
            reason += ": check the endpoint, which often ends in /v1, and the model's name"
        wait_for = retry_after(response.headers)
        passing = (status in _PASSING or status >= 500) and not (
            status == 429 and wait_for is None and is_spent(response.text)
        )
        return Failure(reason, passing, status in _PERHAPS_BILLED, wait_for, status)


class _Key(httpx.Auth):
    """Puts the key into each request; its value is read when it is sent."""

    def __init__(self, variable: str) -> None:
        self._variable = variable

    def auth_flow(self, request: httpx.Request) -> Any:
        """Add the header; Azure's services read another one than all others."""
        if os.environ.get(self._variable, "").strip():
            request.headers["Authorization"] = f"Bearer {os.environ[self._variable].strip()}"
            if request.url.host.endswith(".azure.com"):
                request.headers["api-key"] = os.environ[self._variable].strip()
        yield request

    def scrub(self, text: str) -> str:
        """The text without the key."""
        key = os.environ.get(self._variable, "").strip()
        return text.replace(key, "[key]") if key else text


def is_spent(message: str) -> bool:
    """Whether a refusal (429) is of a quota that is used up, rather than of calls too fast."""
    return bool(_SPENT.search(message)) and not _SOON.search(message)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds in Retry-After, given as such or as a date; None without it."""
    value = next((headers[name] for name in headers if name.lower() == "retry-after"), "")
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(value).timestamp() - time.time()
        except (OverflowError, ValueError):
            return None
    return seconds if 0 < seconds < math.inf else None


def _address(endpoint: str, place: str) -> Any:
    try:
        url = urlsplit(endpoint)
        whole = url.scheme in ("http", "https") and url.hostname and (url.port or True)
    except ValueError:
        whole = False
    if not whole:
        raise InputError(f"{place} is not a URL that begins with https:// or http://")
    if url.username or url.password or url.fragment or not _harmless(url.query):
        raise InputError(f"{place} holds more than a URL: put the key into the environment")
    return url


def _harmless(query: str) -> bool:
    """Azure's older addresses end in ?api-version=DATE; any other query may hold a key."""
    return not query or bool(re.fullmatch(r"api-version=[\w.-]+", query))


def _key_fault(variable: str, scheme: str, host: str) -> str:
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
        return "key_variable is the name of an environment variable, such as OPENAI_API_KEY"
    set_ = os.environ.get(variable, "").strip()
    fault = ""
    if set_ and not all("!" <= letter <= "~" for letter in set_):
        fault = f"{variable} holds a blank or another character that is in no key"
    elif set_ and scheme == "http" and host not in _THIS_MACHINE:
        fault = (
            f"the address is http, and {variable} would be sent in the clear: use https, or name "
            "another key_variable"
        )
    del set_
    return fault


def _message(response: httpx.Response) -> str:
    """What a service says of its error, on one line."""
    try:
        body = response.json()
    except (ValueError, RecursionError):
        return ""
    for name in ("error", "message", "detail"):
        inner = body.get(name) if isinstance(body, dict) else None
        inner = inner.get("message") if isinstance(inner, dict) else inner
        if isinstance(inner, str) and inner:
            return " ".join(inner.split())
    return ""
