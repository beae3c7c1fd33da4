"""The clock counts every query and every phase, and lets nobody wait for another."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from tercet.core.schema import Ranking
from tercet.retrieval.latency import TOP, phase, phase_once, time_searches


class Clock:
    """Time that passes only while somebody sleeps, but for an instant at every look."""

    def __init__(self) -> None:
        self.now = 0.0

    def look(self) -> float:
        self.now += 1e-12
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "perf_counter", clock.look)
    monkeypatch.setattr(time, "sleep", clock.sleep)
    return clock


class Sleeper:
    """Takes as long as it is told, in two phases; remembers what it was asked."""

    def __init__(self, encode: float, search: float) -> None:
        self.encode, self.seconds = encode, search
        self.asked: list[tuple[int, int]] = []

    @property
    def name(self) -> str:
        return "sleeper"

    def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
        self.asked.append((len(queries), k))
        with phase("encode"):
            time.sleep(self.encode)
        with phase("search"):
            time.sleep(self.seconds)
        return [() for _ in queries]


def test_phases_add_up_to_the_total() -> None:
    sleeper = Sleeper(0.004, 0.001)
    timing = time_searches({"s": sleeper}, {"s": ["q"] * 20}, batch=1, seconds=60)["s"]
    encode, search = timing.phases["encode"], timing.phases["search"]
    assert (timing.queries, timing.batch) == (20, 1)
    assert [encode.p50, encode.p95, encode.p99] == pytest.approx([4, 4, 4])
    assert search.p50 == pytest.approx(1)
    assert timing.total.p50 == pytest.approx(5)
    assert timing.total.per_second == pytest.approx(1000 / 5)


def test_a_batch_is_one_lap_and_its_queries_count_each() -> None:
    sleeper = Sleeper(0.0, 0.002)
    timing = time_searches({"s": sleeper}, {"s": ["q"] * 50}, batch=25, seconds=60)["s"]
    assert (timing.queries, timing.batch) == (50, 25)
    assert {size for size, _ in sleeper.asked} == {3, 25}  # 3: the warm-up
    assert {k for _, k in sleeper.asked} == {TOP}
    assert timing.total.per_second == pytest.approx(25 / 0.002)


def test_a_slow_system_is_asked_no_more_and_says_how_many_it_answered() -> None:
    retrievers = {"slow": Sleeper(0.01, 0.0), "fast": Sleeper(0.0, 0.0)}
    told: list[int] = []
    texts = {name: ["q"] * 250 for name in retrievers}
    timings = time_searches(retrievers, texts, batch=1, seconds=0.105, advance=told.append)
    assert timings["slow"].queries == 11
    assert timings["fast"].queries == 250
    assert sum(told) == 500  # the bar ends all the same


def test_systems_answer_in_turns() -> None:
    order: list[str] = []

    class Noting(Sleeper):
        def __init__(self, name: str) -> None:
            super().__init__(0.0, 0.0)
            self.tag = name

        def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
            if not order or order[-1] != self.tag:
                order.append(self.tag)
            return super().search(queries, k)

    retrievers = {"a": Noting("a"), "b": Noting("b"), "c": Noting("c")}
    time_searches(retrievers, {n: ["q"] * 300 for n in retrievers}, batch=1, seconds=60)
    assert order[:3] == ["a", "b", "c"]
    assert len(order) >= 6, "each is asked again and again, not all at once"


def test_phases_count_only_while_timed() -> None:
    with phase("encode"):
        pass
    sleeper = Sleeper(0.0, 0.001)
    sleeper.search(["q"], 10)
    timing = time_searches({"s": sleeper}, {"s": ["q"]}, batch=1, seconds=60)["s"]
    assert timing.phases["search"].p50 == pytest.approx(1)


def test_what_retrievers_have_in_common_is_done_once_and_counts_for_each() -> None:
    done: list[tuple[str, ...]] = []

    class Sharing(Sleeper):
        def search(self, queries: Sequence[str], k: int) -> list[Ranking]:
            def encode() -> int:
                done.append(tuple(queries))
                time.sleep(0.003)
                return len(queries)

            assert phase_once("encode", ("encoder", tuple(queries)), encode) == len(queries)
            with phase("search"):
                time.sleep(self.seconds)
            return [() for _ in queries]

    retrievers = {"a": Sharing(0, 0.001), "b": Sharing(0, 0.002)}
    texts = [f"q{i}" for i in range(10)]
    timings = time_searches(retrievers, dict.fromkeys(retrievers, texts), batch=1, seconds=60)
    warm_up = 2 * 3
    assert len(done) == 10 + warm_up
    assert timings["a"].phases["encode"] == timings["b"].phases["encode"]
    for name, least in (("a", 4), ("b", 5)):
        assert timings[name].total.p50 == pytest.approx(least)
        assert set(timings[name].phases) == {"encode", "search"}
    Sharing(0, 0).search(["q0"], 10)
    assert done[-1] == ("q0",), "not timed, nothing is remembered"
