"""The connection to a Weaviate server: retries, and errors in one line."""

from __future__ import annotations

import os
import re
import socket
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar
from urllib.parse import SplitResult, urlsplit

from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.core.text import error_text, excerpt
from tercet.retrieval.weaviate.settings import NEEDS

try:
    import grpc
    import httpx
    import weaviate
    from weaviate import exceptions as faults
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.config import GrpcConfig
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

Answer = TypeVar("Answer")

_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between attempts after a temporary failure
_CONNECT_SECONDS = 5.0
_GRPC_OPTIONS = [("grpc.enable_http_proxy", 0)]  # as the client's REST calls, which ignore proxies
_NAME = re.compile(r"[A-Z][0-9A-Za-z_]{0,229}")


class WeaviateError(InputError):
    """The server failed or refused a call; the message is one line without the API key."""


class Missing(WeaviateError):
    """The server has nothing of that name (HTTP status 404)."""


class RefusedPassages(WeaviateError):
    """The server refused passages; `failures` maps all their ids to the reasons."""

    def __init__(self, collection: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        shown = [f"{id!r} ({excerpt(why, 160)})" for id, why in list(self.failures.items())[:20]]
        more = ", …" if len(self.failures) > len(shown) else ""
        super().__init__(
            f"Weaviate refused {len(failures)} passages for {collection}: {', '.join(shown)}{more}"
        )


class WeaviateServer:
    """A connection; calls of weaviate's own `client` go through `ask`."""

    def __init__(self, client: Any, url: str) -> None:
        self.client = client
        self.url = url
        # A source is read until the process ends: nobody can say when it is read for the last time.
        self._closed = weakref.finalize(self, client.close)

    @classmethod
    def connect(
        cls, url: str | None = None, grpc_url: str | None = None, api_key: str | None = None
    ) -> WeaviateServer:
        """Connect to a server, by default to that of the environment.

        The environment's variables are WEAVIATE_URL (unset: http://127.0.0.1:8080),
        WEAVIATE_GRPC_URL (unset: port 50051 of the same host) and WEAVIATE_API_KEY. Raises
        InputError for a server that is unreachable, refuses the key or is too old.
        """
        rest = parse_url(url or os.environ.get("WEAVIATE_URL") or "http://127.0.0.1:8080")
        grpc_url = grpc_url or os.environ.get("WEAVIATE_GRPC_URL")
        call = parse_url(grpc_url) if grpc_url else with_port(rest, 50051)
        _check_reachable(rest, call)
        return cls(_client(rest, call, api_key), rest.geturl())

    def close(self) -> None:
        """Close the connection; it is closed at the latest when nobody holds it."""
        self._closed()

    def ask(self, what: str, call: Callable[[], Answer], *, again: bool = True) -> Answer:
        """The result of `call`, retried after temporary failures unless `again` is off.

        Raises WeaviateError: "could not" and `what`.
        """
        pauses = iter(_PAUSES if again else ())
        while True:
            try:
                return call()
            except (faults.WeaviateBaseError, httpx.HTTPError) as fault:
                pause = next(pauses, None) if _passes(fault) else None
                if pause is None:
                    raise _explain(fault, f"Weaviate at {self.url} could not {what}") from None
            time.sleep(pause)

    def wait(self, what: str, ready: Callable[[], bool], patience: float) -> None:
        """Poll until `ready`. Raises WeaviateError after more than `patience` seconds."""
        deadline = time.monotonic() + patience
        while not self.ask(what, ready):
            if time.monotonic() > deadline:
                raise WeaviateError(
                    f"Weaviate at {self.url} did not {what} in {patience:.0f} s: "
                    "see its log, or set patience higher"
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


def _client(rest: SplitResult, call: SplitResult, api_key: str | None) -> Any:
    key = (api_key or os.environ.get("WEAVIATE_API_KEY") or "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError("the Weaviate API key holds characters that no key has: copy it again")
    try:
        return weaviate.connect_to_custom(
            http_host=rest.hostname,
            http_port=rest.port,
            http_secure=rest.scheme == "https",
            grpc_host=call.hostname,
            grpc_port=call.port,
            grpc_secure=call.scheme == "https",
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=_CONNECT_SECONDS, query=30, insert=120),
                grpc_config=GrpcConfig(channel_options=_GRPC_OPTIONS),
            ),
            skip_init_checks=True,  # they also call a package registry
        )
    except (faults.WeaviateBaseError, httpx.HTTPError, KeyError, ValueError) as fault:
        raise _explain(fault, f"could not talk to Weaviate at {rest.geturl()}") from None


def _passes(fault: Exception) -> bool:
    """Whether the failure is temporary. The client itself has retried gRPC's UNAVAILABLE."""
    if isinstance(fault, faults.UnexpectedStatusCodeError):
        return fault.status_code in (429, 502, 503, 504)
    if isinstance(fault, faults.WeaviateQueryError):
        return "deadline exceeded" in str(fault).lower()
    return isinstance(
        fault,
        faults.WeaviateTimeoutError | faults.WeaviateConnectionError | httpx.TransportError,
    )


def _explain(fault: Exception, what: str) -> WeaviateError:
    status = getattr(fault, "status_code", None)
    if status == 401 or "unauthenticated" in str(fault).lower():
        return WeaviateError(f"{what}: it wants a valid API key: set WEAVIATE_API_KEY")
    if status == 404:
        return Missing(f"{what}: there is nothing of that name")
    return WeaviateError(f"{what}: {error_text(fault, 400)}")


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


def parse_url(url: str) -> SplitResult:
    """Parse a URL of scheme, host and port. Raises InputError for any other URL."""
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if "@" in parts.netloc:  # not shown: it may be a password
        raise InputError("a Weaviate URL must not hold a user or password: use WEAVIATE_API_KEY")
    try:
        port = {"http": parts.port or 80, "https": parts.port or 443}[parts.scheme]
    except (ValueError, KeyError):
        port = 0
    if not port or not parts.hostname or parts.path not in ("", "/") or parts.query:
        raise InputError(f"{url!r} is not a Weaviate URL: give http(s)://host:port")
    return _url(parts.scheme, parts.hostname, port)


def with_port(url: SplitResult, port: int) -> SplitResult:
    """The URL with another port."""
    return _url(url.scheme, str(url.hostname), port)


def _check_reachable(rest: SplitResult, call: SplitResult) -> None:
    """Raise InputError unless the REST and gRPC ports answer within seconds.

    The client's own retries would take minutes.
    """
    try:
        socket.create_connection((rest.hostname, rest.port), _CONNECT_SECONDS).close()
    except OSError as fault:
        raise InputError(
            f"no Weaviate at {rest.geturl()} ({error_text(fault)}): "
            "start one with `make weaviate`, or set WEAVIATE_URL"
        ) from None
    channel = (
        grpc.secure_channel(call.netloc, grpc.ssl_channel_credentials(), _GRPC_OPTIONS)
        if call.scheme == "https"
        else grpc.insecure_channel(call.netloc, _GRPC_OPTIONS)
    )
    try:
        grpc.channel_ready_future(channel).result(_CONNECT_SECONDS)
    except grpc.FutureTimeoutError:
        raise InputError(
            f"Weaviate's gRPC port is not at {call.geturl()}: set WEAVIATE_GRPC_URL"
        ) from None
    finally:
        channel.close()


def _url(scheme: str, host: str, port: int) -> SplitResult:
    host = f"[{host}]" if ":" in host else host
    return SplitResult(scheme, f"{host}:{port}", "", "", "")
