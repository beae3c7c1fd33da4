"""Rerankers behind an API: no pair is paid twice, and their scores are log-odds."""

from __future__ import annotations

import logging
import math
import multiprocessing
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_server import Service, likeness, serve_apis
from cohere_server import Trouble

from tercet.core.schema import InputError, Teacher
from tercet.modeling import ApiReranker
from tercet.modeling.api_client import Patience

KEY = "co_canary" + "7Qx" * 9
HURRY = Patience(tries=50, backoff=1e-3, longest_wait=0.05)
ADDRESS = {"cohere": "/v2", "tei": "", "vllm": ""}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "CO_API_KEY"):
        monkeypatch.setenv(name, KEY)
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service() -> Iterator[Service]:
    with serve_apis(KEY) as service:
        yield service


def reranker(service: Service, api: Any = "vllm", **settings: Any) -> ApiReranker:
    given = {"endpoint": service.address + ADDRESS[api], "patience": HURRY} | settings
    return ApiReranker("ranker", api=api, **given)


def pairs(queries: int = 6, passages: int = 7) -> list[tuple[str, str]]:
    found = [
        (f"keeper of lamp {q}", f"keeper {p} lamp {q * p}")
        for q in range(queries)
        for p in range(passages)
    ]
    return random.Random(0).sample(found, len(found))


def log_odds(query: str, passage: str) -> float:
    score = likeness(query, passage)
    return math.log(score / (1 - score))


def refuses(match: str) -> Any:
    return pytest.raises(InputError, match=match)


@pytest.mark.parametrize("api", ["cohere", "tei", "vllm"])
def test_scores_are_logits_and_no_pair_is_sent_twice(service: Service, api: str) -> None:
    service.relevance = log_odds if api == "tei" else likeness
    protocol: Teacher = reranker(service, api)
    some = pairs()
    scores = protocol.score([*some, *some[:5]])
    assert scores.dtype == np.float32
    wanted = [log_odds(*pair) for pair in [*some, *some[:5]]]
    np.testing.assert_allclose(scores, wanted, atol=1e-4)
    assert len(service.calls) == 6, "one call a query"
    assert not +service.again
    np.testing.assert_allclose(reranker(service, api).score(some[::-1]), wanted[41::-1], atol=1e-4)
    assert len(service.calls) == 6
    body = service.calls[0].body
    wanted_fields = {"texts", "raw_scores", "truncate"} if api == "tei" else {"documents", "model"}
    assert wanted_fields <= body.keys()
    assert set(protocol.lengths(some).tolist()) == {1}, "the pairs of a query stay together"


def test_certain_scores_are_finite(service: Service) -> None:
    service.relevance = lambda query, passage: float(passage)
    scores = reranker(service).score([("q", "0"), ("q", "1"), ("q", "0.5")])
    np.testing.assert_allclose(scores, [-16.118, 16.118, 0.0], atol=1e-3)


def test_a_call_holds_as_many_passages_as_the_server_takes(service: Service) -> None:
    service.most_texts = 5
    some = [("query", f"passage {i}") for i in range(40)]
    scores = reranker(service, concurrency=1).score(some)
    np.testing.assert_allclose(scores, [log_odds(*pair) for pair in some], atol=1e-4)
    assert not +service.again


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_delays_and_nothing_answered_is_sent_again(service: Service, seed: int) -> None:
    kinds = [
        *[Trouble()] * 3,
        Trouble(status=429, headers={"Retry-After": "0.01"}),
        Trouble(status=500),
        Trouble(status=502),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
    ]
    service.troubles = random.Random(seed).choices(kinds, k=40)
    some = pairs(20, 3)
    scores = reranker(service).score(some)
    np.testing.assert_allclose(scores, [log_odds(*pair) for pair in some], atol=1e-4)
    assert not +service.again


@pytest.mark.fault("an API's wrong answer")
@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (lambda answer: answer["results"].pop(), "answered 2 scores where 3 were due"),
        (lambda answer: answer["results"][0].update(index=7), "answered 3 scores where 3"),
        (lambda answer: answer["results"][0].update(index=1), "answered 2 scores where 3"),
        (lambda answer: answer["results"][0].update(relevance_score="a"), "that is no number"),
        (lambda answer: answer["results"][0].update(relevance_score=None), "that is no number"),
        (lambda answer: answer["results"][0].update(relevance_score=3.5), "a score of 3.5, where"),
        (lambda answer: answer.clear(), "answered no scores of 3 passages"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_not_kept(
    service: Service, alter: Callable[[dict[str, Any]], None], match: str
) -> None:
    service.troubles = [Trouble(alter=alter)]
    some = [("q w e", passage) for passage in ("q w", "w", "e r")]
    with refuses(f"^ranker: 127.0.0.1 .*{match}.*Of 3 pairs 3 have no score"):
        reranker(service).score(some)
    assert len(service.calls) == 1
    np.testing.assert_allclose(
        reranker(service).score(some), [log_odds(*pair) for pair in some], atol=1e-4
    )


def _score(address: str) -> None:
    ApiReranker("ranker", api="vllm", endpoint=address, concurrency=2).score(pairs(60, 4))


def test_kills_at_any_moment_lose_the_calls_on_their_way_alone(service: Service) -> None:
    service.delay = 0.01
    context, chance = multiprocessing.get_context("fork"), random.Random(0)
    for _ in range(4):
        calls = len(service.calls) + chance.randint(2, 8)
        child = context.Process(target=_score, args=(service.address,))
        child.start()
        while len(service.calls) < calls:
            assert child.is_alive()
            time.sleep(1e-3)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    some = pairs(60, 4)
    np.testing.assert_allclose(
        reranker(service).score(some), [log_odds(*pair) for pair in some], atol=1e-4
    )
    assert sum(service.again.values()) <= 4 * 2 * 4


def test_a_budget_is_not_passed(service: Service) -> None:
    one = reranker(service, "cohere", dollars=0.021, dollars_per_1000_searches=2.0)
    with refuses(r"the budget of \$0.021 could be passed: \$0.02 is spent, and the next 3 pass"):
        one.score(pairs(20, 3))
    assert service.billed["searches"] == 10 and one.spent == pytest.approx(0.02)
    reranker(service, "cohere").score(pairs(20, 3))
    assert len(service.calls) == 20
    assert one.dollars(1_000, 26) == pytest.approx(2.0)
    with refuses("needs the price of 'ranker': set dollars_per_1000_searches"):
        reranker(service, dollars=1.0)


def test_what_is_lacking_is_told_before_work(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    with refuses("a reranker by tei needs its endpoint"):
        ApiReranker("ranker", api="tei")
    reranker(service, "cohere").check()
    with refuses("does not answer .ConnectError.: check the endpoint"):
        reranker(service, endpoint="http://127.0.0.1:9").check()
    monkeypatch.delenv("CO_API_KEY")
    with refuses("ranker scores every pair: set CO_API_KEY"):
        reranker(service, "cohere").check()


@pytest.mark.fault("secrets")
def test_the_key_is_told_nowhere(
    service: Service, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    one = reranker(service, "cohere", patience=Patience(tries=2, backoff=1e-3))
    for trouble in (Trouble(status=400), Trouble(status=401, message=f"bad {KEY}")):
        service.troubles = [trouble] * 2
        with pytest.raises(InputError) as caught:
            one.score([("a", f"b {trouble.status}")])
        seen = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        told = [repr(frame.locals) for frame in seen.stack if frame.filename != __file__]
        told += [*traceback.format_exception(caught.value), repr(vars(one)), caplog.text]
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        told += [file.read_bytes().decode("latin-1") for file in files]
        assert not [text for text in told if KEY in text]
        service.troubles = []
