"""What calls of an API cost, and the budgets of money and tokens that they never pass."""

from __future__ import annotations

import math
import threading
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tercet.core.schema import InputError

_BYTES_PER_TOKEN = 3  # most prose has more, so a forecast is rather too high
_BEYOND_ANY_BILL = 10**12


class Stopped(Exception):
    """Buying cannot continue; its message is fit to be shown, without key or request."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a model reads and writes, and searches of a reranker."""

    read: int = 0
    written: int = 0
    searches: int = 0

    @property
    def tokens(self) -> int:
        """Tokens read and written."""
        return self.read + self.written

    def plus(self, other: Usage, sign: int = 1) -> Usage:
        """The sum; the difference if `sign` is -1."""
        return Usage(
            self.read + sign * other.read,
            self.written + sign * other.written,
            self.searches + sign * other.searches,
        )


def count_of(told: Any) -> int | None:
    """A count that a service tells, rounded up; None for what is no count, or beyond any bill."""
    if not isinstance(told, int | float) or not 0 <= told < _BEYOND_ANY_BILL:
        return None
    return math.ceil(told)


@dataclass(frozen=True, slots=True)
class Prices:
    """Dollars per million tokens read and written, and per thousand searches; None if unknown."""

    read: float | None = None
    written: float | None = None
    searches: float | None = None

    @property
    def known(self) -> bool:
        """Whether any price is known."""
        return any(each is not None for each in (self.read, self.written, self.searches))

    def cost(self, usage: Usage) -> float:
        """Dollars; what has no price counts as nothing."""
        tokens = usage.read * (self.read or 0.0) + usage.written * (self.written or 0.0)
        return tokens / 1e6 + usage.searches / 1e3 * (self.searches or 0.0)


class Account:
    """The bills and budgets of one object, for any number of threads.

    A call is sent only if its highest possible cost fits beside all that is spent, that was lost
    and that is due for calls on their way. A call whose answer was lost counts with that cost.
    """

    def __init__(
        self, prices: Prices, *, dollars: float | None = None, tokens: int | None = None
    ) -> None:
        self.prices = prices
        self._dollars, self._tokens = dollars, tokens
        self._billed, self._lost, self._due = Usage(), Usage(), Usage()
        self._changed = threading.Condition()

    @property
    def budget(self) -> float | None:
        """The budget in dollars."""
        return self._dollars

    @property
    def billed(self) -> Usage:
        """What was billed."""
        return self._billed

    @property
    def spent(self) -> float:
        """Dollars that were billed; 0 if the price is unknown."""
        return self.prices.cost(self._billed)

    def hold(self, most: Usage, what: str) -> None:
        """Keep the highest cost of a call; `what` it is for, in words. Raises Stopped."""
        with self._changed:
            while fault := self._fault(most, what):
                if self._due == Usage():
                    raise Stopped(fault)
                self._changed.wait()  # those on their way may cost less than their most
            self._due = self._due.plus(most)

    def settle(self, most: Usage, usage: Usage) -> None:
        """Book what a call was billed in place of its most."""
        self._release(most, billed=usage)

    def lose(self, most: Usage) -> None:
        """Book a call whose answer was lost, and which may have been billed."""
        self._release(most, lost=most)

    def release(self, most: Usage) -> None:
        """Forget a call that was not billed."""
        self._release(most)

    def _release(
        self, most: Usage, *, billed: Usage | None = None, lost: Usage | None = None
    ) -> None:
        with self._changed:
            self._due = self._due.plus(most, -1)
            self._billed = self._billed.plus(billed or Usage())
            self._lost = self._lost.plus(lost or Usage())
            self._changed.notify_all()

    def _fault(self, most: Usage, what: str) -> str:
        """What is wrong with sending a call of at most `most`, or nothing."""
        taken = self._billed.plus(self._lost).plus(self._due)
        if self._tokens is not None and taken.plus(most).tokens > self._tokens:
            return (
                f"the budget of {self._tokens:,} tokens could be passed: {self._billed.tokens:,} "
                f"are used, and the next {what} take at most {most.tokens:,}"
            )
        cost = self.prices.cost
        if self._dollars is None or cost(taken.plus(most)) <= self._dollars:
            return ""
        lost = cost(self._lost)
        perhaps = f" and up to {money(lost)} for answers that were lost" if lost else ""
        return (
            f"the budget of {money(self._dollars)} could be passed: {money(self.spent)} is "
            f"spent{perhaps}, and the next {what} cost at most {money(cost(most))}"
        )


def check_settings(least_of: Mapping[str, tuple[float, float]]) -> None:
    """Raise InputError for the first setting, by name, whose value is below its least."""
    for setting, (value, least) in least_of.items():
        if not least <= value < math.inf:
            raise InputError(f"{setting} is {value}, and can be {least} or more")


def money(dollars: float) -> str:
    """Format dollars."""
    return f"${dollars:,.2f}" if dollars >= 0.1 or not dollars else f"${dollars:.2g}"


def tokens_of(text: str) -> int:
    """Estimate the tokens that a text is billed for, rather too high."""
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def most_tokens(texts: Iterable[str]) -> int:
    """Bound the tokens of texts: two at the ends, and one a byte of the text or its NFKC form."""
    forms = ((text, unicodedata.normalize("NFKC", text)) for text in texts)
    return sum(2 + max(len(form.encode()) for form in pair) for pair in forms)


def cut_to(text: str, tokens: int) -> str:
    """The text cut, after a word where possible, to about `tokens` tokens and rather fewer."""
    data = text.encode()
    if len(data) <= tokens * _BYTES_PER_TOKEN:
        return text
    cut = data[: tokens * _BYTES_PER_TOKEN].decode(errors="ignore")
    return cut[: cut.rfind(" ") if " " in cut[len(cut) // 2 :] else len(cut)]
