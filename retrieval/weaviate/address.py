"""Where a Weaviate server is: its two addresses, and whether they answer."""

from __future__ import annotations

import socket
from urllib.parse import SplitResult, urlsplit

from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.core.text import error_text

try:
    import grpc
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

#: As the client's REST calls, which ignore proxies; and a server that is back is found soon.
GRPC_OPTIONS = [
    ("grpc.enable_http_proxy", 0),
    ("grpc.initial_reconnect_backoff_ms", 500),
    ("grpc.max_reconnect_backoff_ms", 2_000),
]
#: Seconds that a port may take to answer.
CONNECT_SECONDS = 5.0
_GRPC_PORT = 50051
_CLOUD = (".weaviate.network", ".weaviate.cloud", ".weaviate.io")


def parse_url(url: str) -> SplitResult:
    """Parse a URL of scheme, host and port. Raises InputError for any other URL.

    Without a scheme it is http, and https for Weaviate Cloud.
    """
    if "//" not in url:
        host = url.partition("/")[0].partition(":")[0].lower()
        url = f"{'https' if host.endswith(_CLOUD) else 'http'}://{url}"
    parts = urlsplit(url)
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


def grpc_of(rest: SplitResult) -> SplitResult:
    """Where gRPC answers if nobody says so: Weaviate Cloud has a host of its own for it."""
    host = str(rest.hostname)
    if not host.endswith(_CLOUD):
        return with_port(rest, _GRPC_PORT)
    name, _, domain = host.partition(".")
    host = f"{name}.grpc.{domain}" if host.endswith(_CLOUD[0]) else f"grpc-{host}"
    return _url("https", host, 443)


def check_reachable(rest: SplitResult, call: SplitResult) -> None:
    """Raise InputError unless the REST and gRPC ports answer within seconds.

    The client's own retries would take minutes.
    """
    try:
        socket.create_connection((rest.hostname, rest.port), CONNECT_SECONDS).close()
    except OSError as fault:
        raise InputError(
            f"no Weaviate at {rest.geturl()} ({error_text(fault)}): "
            "start one with `make weaviate`, or set WEAVIATE_URL"
        ) from None
    channel = (
        grpc.secure_channel(call.netloc, grpc.ssl_channel_credentials(), GRPC_OPTIONS)
        if call.scheme == "https"
        else grpc.insecure_channel(call.netloc, GRPC_OPTIONS)
    )
    try:
        grpc.channel_ready_future(channel).result(CONNECT_SECONDS)
    except grpc.FutureTimeoutError:
        raise InputError(
            f"Weaviate's gRPC port is not at {call.geturl()}: set WEAVIATE_GRPC_URL"
        ) from None
    finally:
        channel.close()


def _url(scheme: str, host: str, port: int) -> SplitResult:
    host = f"[{host}]" if ":" in host else host
    return SplitResult(scheme, f"{host}:{port}", "", "", "")
