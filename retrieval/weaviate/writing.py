"""Objects are written in batches: again while a failure may pass, in halves where too large."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import Any

from tercet.core.extras import missing
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.failures import (
    Lost,
    NotAllowed,
    TooLarge,
    WeaviateError,
    faults,
    may_pass,
)

try:
    from weaviate.classes.data import DataObject
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

__all__ = ["DataObject", "insert"]

_THREADS = 2


def insert(
    server: WeaviateServer, handle: Any, objects: Iterable[DataObject], size: int
) -> dict[str, str]:
    """Write objects in batches of `size`, and return the reasons of those refused by UUID.

    An object with the UUID of another replaces it, so a batch may be sent again. Raises
    ServerFailed if the server does not take objects that it may take later, as those of a
    read-only shard, until the deadline; Lost if it went away meanwhile; and NotAllowed.
    """
    waiting, refused, lost = iter(objects), dict[str, str](), server.lost

    def send(batch: list[DataObject]) -> dict[str, str]:
        return _send(server, handle, batch)

    with ThreadPoolExecutor(_THREADS) as pool:
        while batches := list(islice(_batches(waiting, size), _THREADS)):
            for failed in pool.map(send, batches):
                refused |= failed
            if server.lost != lost:
                raise Lost(
                    f"Weaviate at {server.url} went away while {handle.name} was written: it may "
                    "lack what it had confirmed"
                )
    return refused


def _batches(objects: Iterator[DataObject], size: int) -> Iterator[list[DataObject]]:
    while batch := list(islice(objects, size)):
        yield batch


def _send(server: WeaviateServer, handle: Any, batch: Sequence[DataObject]) -> dict[str, str]:
    """Write a batch by its deadline; the reasons of what the server refuses for good."""
    what, waits, refused = f"write to {handle.name}", server.waits(), dict[str, str]()
    while True:
        try:
            failed = server.ask(what, partial(_failures, handle, batch), waits)
        except TooLarge as error:
            if len(batch) == 1:
                return {str(batch[0].uuid): str(error)}
            middle = len(batch) // 2
            halves = (_send(server, handle, half) for half in (batch[:middle], batch[middle:]))
            return refused | next(halves) | next(halves)
        later = {key: why for key, why in failed.items() if may_pass(why)}
        refused |= {key: why for key, why in failed.items() if key not in later}
        if not later:
            return refused
        batch = [each for each in batch if str(each.uuid) in later]
        why = next(iter(later.values()))
        waits.wait(WeaviateError(f"Weaviate at {server.url} could not {what}: {why}"))


def _failures(handle: Any, batch: Sequence[DataObject]) -> dict[str, str]:
    """Send a batch once; the server's messages by the UUIDs of the objects that failed."""
    try:
        errors = handle.data.insert_many(batch).errors
        failed = {str(batch[row].uuid): str(error.message) for row, error in errors.items()}
    except faults.WeaviateInsertManyAllFailedError as error:
        why = str(error).partition("all errors: ")[2] or str(error)
        failed = {str(each.uuid): why for each in batch}
    for why in failed.values():
        if "insufficient permissions" in why:
            raise NotAllowed(
                f"could not write to {handle.name}: the key may not do that: set WEAVIATE_API_KEY "
                "to one that may"
            )
    return failed
