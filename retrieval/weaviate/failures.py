"""What the client raises, as errors in one line: which may pass, and which do not."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping

from tercet.core.extras import missing
from tercet.core.schema import InputError
from tercet.core.text import error_text, excerpt

try:
    import httpx

    with warnings.catch_warnings():  # its import makes Python show every warning of the process
        from weaviate import exceptions as faults
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

_MAY_PASS = re.compile(
    r"deadline exceeded|unavailable|read.?only|shut(ting)? ?down|not ready|no leader|"
    r"leader not found|connection (refused|reset)|overloaded|too many requests|"
    r"not enough memory|memory pressure",
    re.IGNORECASE,
)
#: Said of every collection for seconds after a start.
_STARTING = re.compile(r"could not find class|non-existing index")
_TOO_LARGE = re.compile(r"message larger than max|QUERY_MAXIMUM_RESULTS '?(?P<most>\d+)")


class WeaviateError(InputError):
    """The server failed or refused a call; the message is one line without the API key."""


class ServerFailed(WeaviateError):
    """The server did not answer, or could not do its work, until the deadline."""

    exit_code = 1


class Lost(ServerFailed):
    """The server went away during an import: it may lack objects that it had confirmed.

    A Weaviate that is killed loses the last vectors of its index, and finds the objects no more.
    Sent again they change nothing, as they are stored: only a new collection has them all.
    """


class Missing(WeaviateError):
    """The server has nothing of that name (HTTP status 404)."""


class NotAllowed(WeaviateError):
    """The key may not do this."""


class TooLarge(WeaviateError):
    """An answer or request is more than one message, or one query's results, may be.

    `most` is the server's QUERY_MAXIMUM_RESULTS if that is the reason.
    """

    most: int | None = None


class RefusedPassages(WeaviateError):
    """The server refused passages; `failures` maps all their ids to the reasons."""

    def __init__(self, collection: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        shown = [f"{id!r} ({excerpt(why, 160)})" for id, why in list(self.failures.items())[:20]]
        more = ", …" if len(self.failures) > len(shown) else ""
        super().__init__(
            f"Weaviate refused {len(failures)} passages for {collection}: {', '.join(shown)}{more}"
        )


def may_pass(message: str) -> bool:
    """Whether a failure with this message may pass by itself, as that of a full disk."""
    return bool(_MAY_PASS.search(message))


def passes(fault: Exception) -> bool:
    """Whether the client's exception is of a failure that may pass."""
    if isinstance(fault, faults.UnexpectedStatusCodeError):
        return fault.status_code in (429, 502, 503, 504) or (
            fault.status_code == 500 and may_pass(str(fault))
        )
    if isinstance(fault, faults.WeaviateQueryError | faults.WeaviateBatchError):
        return may_pass(str(fault))
    return is_gone(fault) or isinstance(fault, faults.WeaviateTimeoutError)


def is_gone(fault: Exception) -> bool:
    """Whether the connection was lost or refused: the server may have been started again."""
    return isinstance(fault, faults.WeaviateConnectionError | httpx.TransportError)


def is_starting(fault: Exception) -> bool:
    """Whether the failure is one of a server that has just started, or of a wrong name."""
    return bool(_STARTING.search(str(fault)))


def explain(fault: Exception, what: str) -> WeaviateError:
    """The client's exception in one line that begins with `what`."""
    status, said = getattr(fault, "status_code", None), str(fault)
    if status == 401 or "unauthenticated" in said.lower():
        return NotAllowed(f"{what}: it wants a valid API key: set WEAVIATE_API_KEY")
    if status == 403 or "insufficient permissions" in said:
        return NotAllowed(
            f"{what}: its API key may not do that: set WEAVIATE_API_KEY to one that may"
        )
    if status == 404:
        return Missing(f"{what}: there is nothing of that name")
    if found := _TOO_LARGE.search(said):
        error = TooLarge(f"{what}: {error_text(fault, 400)}")
        error.most = int(found["most"]) if found["most"] else None
        return error
    return WeaviateError(f"{what}: {error_text(fault, 400)}")
