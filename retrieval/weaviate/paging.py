"""Pages of objects, in halves where one is more than a message or a query's results may be."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tercet.core.schema import InputError
from tercet.retrieval.weaviate.failures import TooLarge

#: Objects of a page at first: 3 MB with 1,536 dimensions, of the 10 that gRPC may allow.
PAGE = 500
_GROWS_AFTER = 4  # pages of one size, before the next is doubled

#: Fetches the objects after a UUID (None: the first), at most so many.
Fetch = Callable[[Any, int], list[Any]]


def paged(
    fetch: Fetch, place: str, first_key: Callable[[Any], str], most: int = PAGE
) -> Iterator[list[Any]]:
    """Pages in the order of UUIDs; each is halved while it is too large, and doubled again later.

    Raises InputError for an object that is too large alone, by `first_key`, its UUID after another.
    """
    size = most
    after, good = None, 0
    while True:
        try:
            page = fetch(after, size)
        except TooLarge as error:
            most = error.most or most
            if size == 1:
                raise InputError(
                    f"{place}: object {first_key(after)} is more than one message of the server "
                    f"may hold: raise its GRPC_MAX_MESSAGE_SIZE, or shorten the object ({error})"
                ) from None
            size, good = min(size // 2, most), 0
            continue
        if not page:
            return
        yield page
        after, good = page[-1].uuid, good + 1
        if good == _GROWS_AFTER:
            size, good = min(2 * size, most), 0


def in_halves(fetch: Callable[[Sequence[str]], list[Any]], keys: Sequence[str]) -> list[Any]:
    """What `fetch` finds of these keys, all at once or in halves where that is too large."""
    try:
        return fetch(keys)
    except TooLarge:
        if len(keys) == 1:
            raise
    middle = len(keys) // 2
    return in_halves(fetch, keys[:middle]) + in_halves(fetch, keys[middle:])
