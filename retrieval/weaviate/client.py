"""The connection to a Weaviate server: retries until a deadline, and errors in one line."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from typing import Any, TypeVar
from urllib.parse import SplitResult

from tercet.core.console import console
from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.retrieval.weaviate.address import (
    CONNECT_SECONDS,
    GRPC_OPTIONS,
    check_reachable,
    grpc_of,
    parse_url,
)
from tercet.retrieval.weaviate.failures import (
    NotAllowed,
    ServerFailed,
    TooLarge,
    WeaviateError,
    explain,
    faults,
    is_gone,
    is_starting,
    passes,
)
from tercet.retrieval.weaviate.settings import NEEDS

try:
    import grpc
    import httpx
    import weaviate
    from weaviate.classes.config import Configure
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.config import GrpcConfig
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

Answer = TypeVar("Answer")

#: Environment variable: the seconds that one operation is tried again while its failure may pass.
DEADLINE = "WEAVIATE_DEADLINE"
_SECONDS = 120.0
_PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)  # seconds between attempts; the last one stays
#: Attempts at any error, by a server that has just come back.
_COMING_BACK = 5
_NAME = re.compile(r"[A-Z][0-9A-Za-z_]{0,229}")

# It reports refused objects, which are errors here; without a handler Python prints its records.
logging.getLogger("weaviate-client").addHandler(logging.NullHandler())


#: Servers that this process has reached: one that is gone may come back.
_ANSWERED = set[str]()


class Waits:
    """The pauses between the attempts of one operation, until its deadline."""

    def __init__(self, server: WeaviateServer) -> None:
        self._server = server
        self._end = time.monotonic() + (0 if server.gave_up else server.deadline)
        self._pauses = _pauses()

    def wait(self, fault: InputError) -> None:
        """Tell why, and pause. Raises ServerFailed after the deadline."""
        left = self._end - time.monotonic()
        pause = next(self._pauses)
        if left <= 0:
            self._server.gave_up = True
            raise ServerFailed(
                f"{fault}, for {self._server.deadline:.0f} s: run the same command again when the "
                f"server works (or set {DEADLINE} to more seconds)"
            ) from None
        pause = min(pause, left)
        self._server.tell(f"  {fault}: again in {pause:.1f} s, for {left:.0f} s at most")
        time.sleep(pause)


class WeaviateServer:
    """A connection; calls of weaviate's own `client` go through `ask`."""

    def __init__(self, client: Any, url: str, deadline: float) -> None:
        """Use `connect`; `deadline` is the seconds that one operation is tried again."""
        self.client = client
        self.url = url
        self.deadline = deadline
        #: How often its connection was lost: it may have been started again. And what is done then.
        self.lost = 0
        self.when_lost: Callable[[], None] = lambda: None
        #: Whether a deadline has passed: until the server answers, nothing else is waited for.
        self.gave_up = False
        self._told = 0.0
        self._lock = threading.Lock()
        self._closed: Callable[[], Any]

    @classmethod
    def connect(
        cls, url: str | None = None, grpc_url: str | None = None, api_key: str | None = None
    ) -> WeaviateServer:
        """Connect to a server, by default to that of the environment.

        The environment's variables are WEAVIATE_URL (unset: http://127.0.0.1:8080),
        WEAVIATE_GRPC_URL (unset: port 50051 of the same host, or Weaviate Cloud's host for it),
        WEAVIATE_API_KEY and WEAVIATE_DEADLINE (unset: 120 seconds). Raises InputError for a server
        that is unreachable, unless this process has reached it before, refuses the key or is too
        old.
        """
        rest = parse_url(url or os.environ.get("WEAVIATE_URL") or "http://127.0.0.1:8080")
        grpc_url = grpc_url or os.environ.get("WEAVIATE_GRPC_URL")
        call = parse_url(grpc_url) if grpc_url else grpc_of(rest)
        key, deadline = _key(api_key), _deadline()
        server = cls(None, rest.geturl(), deadline)
        waits, place = server.waits(), f"{server.url} {call.geturl()}"
        while True:
            try:
                check_reachable(rest, call)
                server.client = _client(rest, call, key, deadline)
                break
            except NotAllowed:
                raise
            except InputError as error:
                if place not in _ANSWERED:  # a wrong address is told at once
                    raise
                waits.wait(error)
        _ANSWERED.add(place)
        # A source is read until the process ends: nobody can say when it is read for the last time.
        server._closed = weakref.finalize(server, server.client.close)
        return server

    def close(self) -> None:
        """Close the connection; it is closed at the latest when nobody holds it."""
        self._closed()

    def ask(self, what: str, call: Callable[[], Answer], waits: Waits | None = None) -> Answer:
        """The result of `call`, which may be repeated; tried again while a failure may pass.

        `waits` are those of a larger operation. Raises WeaviateError: "could not" and `what`; and
        ServerFailed after the deadline.
        """
        waits = waits or self.waits()
        tolerated: int | None = None
        while True:
            try:
                answer = call()
                self.gave_up = False
                return answer
            except (faults.WeaviateBaseError, httpx.HTTPError) as fault:
                error = explain(fault, f"Weaviate at {self.url} could not {what}")
                temporary, starting = passes(fault), is_starting(fault)
                if is_gone(fault):
                    with self._lock:
                        self.lost += 1
                        self.when_lost()
            if temporary or (starting and tolerated is None):
                tolerated = _COMING_BACK
            if not tolerated or isinstance(error, NotAllowed | TooLarge):
                raise error from None
            tolerated -= 1
            waits.wait(error)

    def waits(self) -> Waits:
        """The waits of an operation that begins now."""
        return Waits(self)

    def create(self, what: str, exists: Callable[[], Any], make: Callable[[], Any]) -> None:
        """Make something that another process, or an attempt without an answer, may have made."""
        tried = False

        def attempt() -> None:
            nonlocal tried
            if not (tried and exists()):
                tried = True
                make()

        try:
            self.ask(what, attempt)
        except (NotAllowed, ServerFailed):
            raise
        except WeaviateError:
            if not self.ask(what, exists):
                raise

    def check_writes(self, what: str) -> None:
        """Create an empty collection and drop it. Raises InputError if the key may not."""
        name = f"Tercet_may_write_{uuid.uuid4().hex[:12]}"
        collections = self.client.collections
        try:
            self.create(
                "create a collection",
                lambda: collections.exists(name),
                lambda: collections.create(name, vector_config=Configure.Vectors.self_provided()),
            )
            self.drop(name)
        except NotAllowed as error:
            raise InputError(f"{error} ({what})") from error

    def tell(self, text: str) -> None:
        """Print a line of waiting; of several threads' one a second."""
        with self._lock:
            if time.monotonic() - self._told < 1:
                return
            self._told = time.monotonic()
        console.print(text, markup=False, highlight=False)

    def wait(self, what: str, ready: Callable[[], bool], patience: float) -> None:
        """Poll until `ready`. Raises ServerFailed after more than `patience` seconds."""
        deadline = time.monotonic() + patience
        while not self.ask(what, ready):
            if time.monotonic() > deadline:
                raise ServerFailed(
                    f"Weaviate at {self.url} did not {what} in {patience:.0f} s: see its log, then "
                    "run the same command again"
                )
            time.sleep(0.1)

    def version(self) -> tuple[int, ...]:
        """Major and minor version."""
        text = str(self.ask("read the version", self.client.get_meta)["version"])
        return tuple(int(number) for number in re.findall(r"\d+", text)[:2])

    def need(self, what: str) -> None:
        """Raise InputError if the server is too old for "aliases" or a kind of index."""
        need = NEEDS.get(what, (0, 0))
        if need != (0, 0) and (have := self.version()) < need:
            raise InputError(
                f"{self.url} is Weaviate {have[0]}.{have[1]}: {what} needs {need[0]}.{need[1]} "
                "or newer"
            )

    def drop(self, collection: str) -> None:
        """Delete a collection if it exists. Raises InputError if an alias points at it."""
        if self.version() >= NEEDS["aliases"]:
            aliases = self.ask(
                "list aliases", lambda: self.client.alias.list_all(collection=collection)
            )
            if aliases:
                names = ", ".join(sorted(aliases))
                raise InputError(f"alias {names} serves {collection}: point it elsewhere first")
        self.ask(f"drop {collection}", lambda: self.client.collections.delete(collection))


def _key(given: str | None) -> str:
    key = (given or os.environ.get("WEAVIATE_API_KEY") or "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError("the Weaviate API key holds characters that no key has: copy it again")
    return key


def _client(rest: SplitResult, call: SplitResult, key: str, deadline: float) -> Any:
    # One attempt ends within the deadline too.
    longest = Timeout(init=CONNECT_SECONDS, query=min(30, deadline), insert=min(60, deadline))
    try:
        client = weaviate.connect_to_custom(
            http_host=rest.hostname,
            http_port=rest.port,
            http_secure=rest.scheme == "https",
            grpc_host=call.hostname,
            grpc_port=call.port,
            grpc_secure=call.scheme == "https",
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(
                timeout=longest, grpc_config=GrpcConfig(channel_options=GRPC_OPTIONS)
            ),
            skip_init_checks=True,  # they also call a package registry
        )
    except (faults.WeaviateBaseError, httpx.HTTPError, KeyError, ValueError) as fault:
        raise explain(fault, f"could not talk to Weaviate at {rest.geturl()}") from None
    connection = client._connection
    connection._grpc_stub = _Once(connection._grpc_stub)
    return client


class _Once:
    """The client's gRPC calls without its own retries, a minute of silence each."""

    def __init__(self, stub: Any) -> None:
        self._stub = stub

    def __getattr__(self, name: str) -> Callable[..., Any]:
        call = getattr(self._stub, name)

        def once(*arguments: Any, **given: Any) -> Any:
            try:
                return call(*arguments, **given)
            except grpc.RpcError as fault:
                if fault.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                # Only the last of the addresses that were tried, without the library's preface.
                said = str(fault.details()).rpartition("last error: ")[2]
                raise faults.WeaviateConnectionError(said.removeprefix("UNKNOWN: ")) from None

        return once


def _pauses() -> Iterator[float]:
    yield from _PAUSES
    while True:
        yield _PAUSES[-1]


def _deadline() -> float:
    given = os.environ.get(DEADLINE) or str(_SECONDS)
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6:
        raise InputError(f"{DEADLINE} is {given!r}: give a number of seconds")
    return seconds


def weaviate_name(text: str) -> str:
    """A valid name of a collection or alias: `my-run` becomes `My_run`."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")
    if not name[:1].isalpha():
        name = f"Tercet_{name}".strip("_")
    return (name[0].upper() + name[1:])[:230]


def check_name(text: str) -> None:
    """Raise InputError for an invalid name of a collection or alias, with a valid one."""
    if not _NAME.fullmatch(text):
        raise InputError(f"Weaviate does not take the name {text!r}: use {weaviate_name(text)!r}")
