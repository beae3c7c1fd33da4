"""Buys answers that are not in a cache, several calls at a time."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from queue import SimpleQueue
from typing import Any

from tercet.core.signals import Interrupted
from tercet.modeling.api_account import Stopped, Usage
from tercet.modeling.api_client import Caller
from tercet.modeling.paid_cache import Bill, PaidCache

_ROUNDS = 8  # calls of each thread between two looks at what others have bought

#: A call that answers these keys of a cache, each with what is asked.
Order = Mapping[bytes, Any]
#: Answers by key, the usage, and what is wrong with the answer as a whole, or nothing.
Delivery = tuple[Mapping[bytes, bytes], Usage, str]


class Shop:
    """Buys answers that a cache does not hold, several calls at a time; each is stored at once."""

    def __init__(
        self,
        cache: PaidCache,
        caller: Caller,
        send: Callable[[Order], Delivery],
        *,
        concurrency: int = 1,
    ) -> None:
        """`send` makes a call. A fault of its answer ends the buying, with the bill booked."""
        self.cache, self.caller = cache, caller
        self._send, self._concurrency = send, concurrency

    def buy(self, db: sqlite3.Connection, orders: Iterable[Order]) -> Iterator[dict[bytes, bytes]]:
        """Yield the answers of orders, in any order. Raises Stopped when all on the way have come.

        Orders are taken in rounds. Another process may have bought some of a round: they are
        looked up again first.
        """
        rest, size = iter(orders), _ROUNDS * self._concurrency if self._concurrency > 1 else 1
        while taken := list(islice(rest, size)):
            with self.cache.buying():
                there = self.cache.get(db, [key for order in taken for key in order])
                if there:
                    yield there
                missing = [{k: v for k, v in o.items() if k not in there} for o in taken]
                for answers, usage, _ in self._delivered([o for o in missing if o]):
                    cost = self.caller.account.prices.cost(usage)
                    self.cache.add(db, answers, Bill(len(answers), usage.tokens, cost))
                    yield dict(answers)

    def _delivered(self, orders: list[Order]) -> Iterator[Delivery]:
        """Each delivery as it comes; the first failure is raised when all others have come."""
        if self._concurrency == 1 or len(orders) < 2:
            for order in orders:
                delivery = self._send(order)
                yield delivery
                if delivery[2]:
                    raise Stopped(delivery[2])
            return
        todo, done = SimpleQueue[Order | None](), SimpleQueue[Delivery | BaseException]()
        threads = min(self._concurrency, len(orders))
        for _ in range(threads):
            # Daemons: Ctrl-C does not wait for their answers.
            threading.Thread(target=self._work, args=(todo, done), daemon=True).start()
        try:
            yield from _collected(orders, threads, todo, done)
        except (GeneratorExit, KeyboardInterrupt, Interrupted):
            self.caller.give_up()
            raise
        finally:
            for _ in range(threads):
                todo.put(None)

    def _work(
        self, todo: SimpleQueue[Order | None], done: SimpleQueue[Delivery | BaseException]
    ) -> None:
        while (order := todo.get()) is not None:
            try:
                done.put(self._send(order))
            except BaseException as error:
                done.put(error)


def _collected(
    orders: Iterable[Order],
    at_once: int,
    todo: SimpleQueue[Order | None],
    done: SimpleQueue[Delivery | BaseException],
) -> Iterator[Delivery]:
    """Feed the workers while nothing fails, and yield what they deliver."""
    left, fault, due = iter(orders), None, 0
    for order in islice(left, at_once):
        todo.put(order)
        due += 1
    while due:
        found = done.get()
        due -= 1
        if isinstance(found, BaseException):
            fault = fault or found
        else:
            yield found
            fault = fault or (Stopped(found[2]) if found[2] else None)
        if fault is None and (more := next(left, None)) is not None:
            todo.put(more)
            due += 1
    if fault is not None:
        raise fault
