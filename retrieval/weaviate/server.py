"""Where a Weaviate server is, whether it answers, and which names it takes.

No Weaviate client is needed here: weaviate_index.py alone imports it.
"""

from __future__ import annotations

import re
import socket
from urllib.parse import SplitResult, urlsplit

from tercet.core.schema import InputError

try:
    import grpc
except ImportError as error:
    raise InputError("weaviate-client is not installed: pip install 'tercet[weaviate]'") from error

CONNECT_SECONDS = 5.0

#: A proxy from the environment is no way to a database; the client's REST calls pass it by too.
GRPC_OPTIONS = [("grpc.enable_http_proxy", 0)]

_NAME = re.compile(r"[A-Z][0-9A-Za-z_]{0,229}")


def weaviate_name(text: str) -> str:
    """A name that Weaviate takes for a collection or an alias: `my-run` becomes `My_run`."""
    name = re.sub(r"[^0-9A-Za-z]+", "_", text).strip("_")
    if not name[:1].isalpha():
        name = f"Tercet_{name}".strip("_")
    return (name[0].upper() + name[1:])[:230]


def check_name(text: str) -> None:
    """Raises InputError for a name that Weaviate does not take, and offers one that it does."""
    if not _NAME.fullmatch(text):
        raise InputError(f"Weaviate does not take the name {text!r}: use {weaviate_name(text)!r}")


def one_line(text: str, limit: int = 400) -> str:
    """A server's message on one line, shortened."""
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def parse_url(url: str) -> SplitResult:
    """A URL of nothing but scheme, host and port. Raises InputError for any other."""
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
    """The same host at another port."""
    return _url(url.scheme, str(url.hostname), port)


def check_reachable(rest: SplitResult, call: SplitResult) -> None:
    """Raises InputError unless REST and gRPC ports answer, within seconds.

    The client's own retries would take minutes to find out.
    """
    try:
        socket.create_connection((rest.hostname, rest.port), CONNECT_SECONDS).close()
    except OSError as fault:
        raise InputError(
            f"no Weaviate at {rest.geturl()} ({one_line(str(fault))}): "
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
