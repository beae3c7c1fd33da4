"""Whatever befalls the API or the machine: no text is paid twice, no budget passed, no key told."""

from __future__ import annotations

import copy
import logging
import math
import multiprocessing
import pickle
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cohere_server import Api, Trouble, serve, vector
from hypothesis import HealthCheck, given, settings, strategies as st

from tercet.core.schema import Encoder, InputError
from tercet.modeling import api_account
from tercet.modeling.encoders import cohere
from tercet.modeling.encoders.cohere import CohereEncoder
from tercet.modeling.encoders.cohere_prices import refuse_retired

KEY = "co_canary" + "7Qx" * 9
PRICE = 2.0  # dollars a million tokens
TINY = {"output_dimension": 8, "dollars_per_million_tokens": PRICE}
HURRY = {"texts_per_minute": 1e9, "backoff": 1e-3}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("COHERE_API_KEY", "CO_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CO_API_KEY", KEY)
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def api() -> Iterator[Api]:
    with serve(KEY) as api:
        yield api


def encoder(api: Api, **settings: Any) -> CohereEncoder:
    return CohereEncoder("tiny", base_url=api.address, **(TINY | HURRY | settings))


def expected(texts: list[str], input_type: str = "search_document") -> np.ndarray:
    rows = [vector("tiny", input_type, text, 8) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, 8)


def numbered(count: int) -> list[str]:
    return [f"text {i}" for i in range(count)]


def cached_texts(texts: list[str]) -> set[str]:
    """Which of the texts the cache holds, found out without key or server."""
    offline = CohereEncoder("tiny", base_url="http://127.0.0.1:9", **TINY)
    return {text for text in texts if offline.forecast([text]).texts == 0}


def refuses(match: str) -> Any:
    return pytest.raises(InputError, match=match)


# What it gives


def test_the_protocol_is_kept(api: Api) -> None:
    protocol: Encoder = encoder(api)
    texts = numbered(100)
    passages, queries = protocol.encode_passages(texts), protocol.encode_queries(texts[:3])
    assert (protocol.name, protocol.dimension) == ("tiny", 8)
    assert passages.dtype == queries.dtype == np.float32
    np.testing.assert_allclose(passages, expected(texts), atol=1e-6)
    np.testing.assert_allclose(queries, expected(texts[:3], "search_query"), atol=1e-6)
    assert [len(call.texts) for call in api.calls] == [96, 4, 3]
    assert {call.body["truncate"] for call in api.calls} == {"END"}
    assert protocol.encode_passages([]).shape == (0, 8)


def test_vectors_have_unit_length_whatever_the_api_rounds(api: Api) -> None:
    def longer(answer: dict[str, Any]) -> None:
        answer["embeddings"]["float"] = [
            [3 * x for x in row] for row in answer["embeddings"]["float"]
        ]

    api.troubles = [Trouble(alter=longer)]
    texts = numbered(5)
    np.testing.assert_allclose(
        encoder(api).encode_queries(texts), expected(texts, "search_query"), atol=1e-6
    )
    assert (encoder(api).similarity, encoder(api).normalize) == ("cosine", True)


@given(
    texts=st.lists(
        st.sampled_from(["a", "A", "b b", "é", "é", "中文", "🙂", " c", "d\n", *"efghij"])
    ),
    batch_size=st.integers(1, 5),
    seed=st.integers(0, 9),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_texts_in_any_order_are_each_sent_once(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    texts: list[str],
    batch_size: int,
    seed: int,
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / uuid.uuid4().hex))
    api.calls.clear()
    shuffled = random.Random(seed).sample(texts, len(texts))
    np.testing.assert_allclose(
        encoder(api, batch_size=batch_size).encode_passages(texts), expected(texts), atol=1e-6
    )
    assert sorted(api.texts()) == sorted(set(texts))
    assert len(api.calls) == math.ceil(len(set(texts)) / batch_size)
    np.testing.assert_allclose(
        encoder(api).encode_passages(shuffled), expected(shuffled), atol=1e-6
    )
    assert sorted(api.texts()) == sorted(set(texts))


def test_calls_are_full_however_the_cache_is_strewn(api: Api) -> None:
    texts = numbered(3_000)
    encoder(api).encode_passages(texts[::7])
    api.calls.clear()
    vectors = encoder(api).encode_passages(texts + texts[::-1])
    np.testing.assert_allclose(vectors, expected(texts + texts[::-1]), atol=1e-6)
    assert sorted(api.texts()) == sorted(set(texts) - set(texts[::7]))
    assert {len(call.texts) for call in api.calls[:-1]} == {96}


def test_the_cache_keeps_models_widths_and_kinds_apart(api: Api) -> None:
    for model, width in (
        ("embed-v4.0", 256),
        ("embed-v4.0", None),
        ("embed-english-light-v3.0", None),
    ):
        one = CohereEncoder(model, base_url=api.address, output_dimension=width, **HURRY)
        assert (
            one.encode_queries(["a"]).shape
            == one.encode_passages(["a"]).shape
            == (1, one.dimension)
        )
    assert len(api.calls) == 6
    asked = [call.body.get("output_dimension") for call in api.calls]
    assert asked == [256, 256, 1536, 1536, None, None]  # v3 knows no such option


# What goes wrong


def storm(seed: int, length: int) -> list[Trouble]:
    chance = random.Random(seed)
    kinds = [
        *[Trouble()] * 4,
        Trouble(status=429, headers={"Retry-After": "0.01"}),
        Trouble(status=429),
        Trouble(status=500),
        Trouble(status=503, headers={"Retry-After": "junk"}),
        Trouble(status=502),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
    ]
    return chance.choices(kinds, k=length)


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize("seed", range(4))
def test_a_storm_delays_and_nothing_answered_is_sent_again(api: Api, seed: int) -> None:
    api.troubles = storm(seed, 60)
    texts = numbered(300)
    vectors = encoder(api, batch_size=10, tries=100, longest_wait=0.01).encode_passages(texts)
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    assert set(api.texts()) == set(texts)
    assert not +api.again and set(api.answered.values()) == {1}


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured(api: Api, form: str) -> None:
    until = int(time.time()) + 2
    wait = {"seconds": "0.4", "date": formatdate(until, usegmt=True)}[form]
    api.troubles = [Trouble(status=429, headers={"Retry-After": wait})]
    encoder(api).encode_queries(["a"])
    first, second = (call.time for call in api.calls)
    if form == "seconds":
        assert second - first >= 0.4
    else:
        assert time.time() >= until - 0.01  # the clock may be set while this sleeps


@pytest.mark.fault("an API under load")
def test_a_wait_beyond_patience_is_told_instead(api: Api) -> None:
    api.troubles = [Trouble(status=429, message="monthly limit", headers={"Retry-After": "86400"})]
    with refuses(
        r"answers 429 \(monthly limit\) and asks to wait 86,400 s.* 1 texts 1 have no vector"
    ):
        encoder(api).encode_queries(["a"])
    assert len(api.calls) == 1


TRIAL = "You are using a Trial key, which is limited to {0}. You can continue to use the Trial key"


@pytest.mark.fault("an API under load")
def test_a_month_s_limit_is_told_at_once_and_a_minute_s_is_waited_for(api: Api) -> None:
    api.troubles = [Trouble(status=429, message=TRIAL.format("1000 API calls / month"))] * 9
    with refuses(r"answers 429 \(You are using a Trial key, .* / month.* 1 texts 1 have no vector"):
        encoder(api).encode_queries(["a"])
    assert len(api.calls) == 1
    api.troubles = [Trouble(status=429, message=TRIAL.format("40 API calls / minute"))] * 2
    encoder(api).encode_queries(["a"])
    assert len(api.calls) == 4


def test_it_gives_up_after_its_tries_and_goes_on_from_there(api: Api) -> None:
    texts = numbered(30)
    api.troubles = [Trouble(), *[Trouble(status=500, message="oh\nno")] * 3]
    with refuses(
        r"^tiny: 127.0.0.1 answers 500 \(oh no\), 3 times in a row. Of 30 texts 20 have no"
    ):
        encoder(api, batch_size=10, tries=3).encode_passages(texts)
    assert len(api.calls) == 4
    encoder(api).encode_passages(texts)
    assert api.calls[-1].texts == texts[10:] and not +api.again


def test_the_sdk_retries_nothing_by_itself(api: Api) -> None:
    api.troubles = [Trouble(status=500)] * 5
    with refuses("1 times"):
        encoder(api, tries=1).encode_queries(["a"])
    assert len(api.calls) == 1


def test_a_server_that_is_not_there_costs_nothing(api: Api) -> None:
    away = CohereEncoder(
        "tiny", base_url="http://127.0.0.1:9", dollars=1e-3, tries=3, **TINY, **HURRY
    )
    with refuses(r"no whole answer from 127.0.0.1 \(ConnectError\), 3 times in a row"):
        away.encode_queries(["a"])
    assert away.spent == 0
    with refuses("no whole answer from 127.0.0.1 .ReadTimeout."):
        api.troubles = [Trouble(delay=0.3)] * 2
        encoder(api, timeout=0.05, tries=2).encode_queries(["b"])


def drop_last(answer: dict[str, Any]) -> None:
    answer["embeddings"]["float"].pop()


def add_one(answer: dict[str, Any]) -> None:
    answer["embeddings"]["float"].append(answer["embeddings"]["float"][0])


def swap(answer: dict[str, Any]) -> None:
    for rows in (answer["embeddings"]["float"], answer["texts"]):
        rows[0], rows[1] = rows[1], rows[0]


def swap_in_lower_case(answer: dict[str, Any]) -> None:
    swap(answer)
    answer["texts"] = [text.lower() for text in answer["texts"]]


def other_texts(answer: dict[str, Any]) -> None:
    answer["texts"] = ["another", *answer["texts"][1:]]


def row_of(row: Any) -> Callable[[dict[str, Any]], None]:
    def alter(answer: dict[str, Any]) -> None:
        answer["embeddings"]["float"][2] = row

    alter.__name__ = str(row)[:20]
    return alter


def nothing(answer: dict[str, Any]) -> None:
    answer.clear()


@pytest.mark.fault("an API's wrong answer")
@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (drop_last, "answered 4 x 8 numbers where 5 x 8 were due"),
        (add_one, "answered 6 x 8 numbers where 5 x 8 were due"),
        (row_of([0.1] * 7), "answered no 5 vectors of 8 numbers"),
        (row_of([0.1] * 7 + ["x"]), "answered no 5 vectors of 8 numbers"),
        (row_of([0.1] * 7 + [math.nan]), "not finite or is zero, for 'Text 2'"),
        (row_of([0.1] * 7 + [None]), "not finite or is zero, for 'Text 2'"),
        (row_of([0.1] * 7 + [1e39]), "not finite or is zero, for 'Text 2'"),
        (row_of([0.0] * 8), "not finite or is zero, for 'Text 2'"),
        (lambda answer: answer["embeddings"].update(float=[]), "answered 0 numbers where 5 x 8"),
        (lambda answer: answer["embeddings"].clear(), "answered no numbers where 5 x 8"),
        (nothing, "answered no numbers where 5 x 8"),
        (swap, "for other texts than were sent, or in another order"),
        (swap_in_lower_case, "for other texts than were sent, or in another order"),
        (other_texts, "for other texts than were sent, or in another order"),
        (lambda answer: answer["texts"].pop(), "for other texts than were sent"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_not_kept(
    api: Api, alter: Callable[[dict[str, Any]], None], match: str
) -> None:
    texts = [f"Text {i}" for i in range(5)]
    api.troubles = [Trouble(alter=alter)]
    one = encoder(api)
    with refuses(match) as refused:
        one.encode_passages(texts)
    assert "Of 5 texts 5 have no vector" in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(api.calls) == 1  # another try would be paid for again
    assert one.spent >= api.billed * PRICE / 1e6 > 0  # this one was
    np.testing.assert_allclose(one.encode_passages(texts), expected(texts), atol=1e-6)


def test_texts_that_differ_in_case_alone_are_not_mixed_up(api: Api) -> None:
    api.troubles = [Trouble(alter=swap)]
    with refuses("in another order"):
        encoder(api).encode_passages(["Apple", "apple"])


@pytest.mark.parametrize(
    "echo",
    [
        str.lower,  # as v3 does
        lambda text: text.casefold().replace("é", "e").strip(),
        lambda text: " ".join(text.split()),
        lambda text: text[:20],
        None,
    ],
)
def test_an_echo_in_the_words_of_the_model_is_understood(
    api: Api, echo: Callable[[str], str] | None
) -> None:
    def alter(answer: dict[str, Any]) -> None:
        answer["texts"] = [echo(text) for text in answer["texts"]] if echo else []

    texts = [
        "Ein  Café ",
        "Straße ΟΔΟΣ",
        "İstanbul",
        "C++",
        "C#",
        "🙂",
        "A very long text, that it cuts",
    ]
    api.troubles = [Trouble(alter=alter)]
    np.testing.assert_allclose(encoder(api).encode_passages(texts), expected(texts), atol=1e-6)


@pytest.mark.parametrize(
    ("status", "match"),
    [(400, "answers 400 .too long"), (404, "answers 404 .too long"), (402, "answers 402")],
)
def test_what_no_other_try_can_mend_is_not_tried_again(api: Api, status: int, match: str) -> None:
    api.troubles = [Trouble(status=status, message="too long")]
    with refuses(match):
        encoder(api).encode_queries(["a"])
    assert len(api.calls) == 1


def test_texts_without_a_vector_are_refused_before_anything_is_sent(api: Api) -> None:
    for wrong, match in (("", "empty"), (" \n", "empty"), ("a\ud800", "surrogate")):
        with refuses(f"passage 1 .*{match}"):
            encoder(api).encode_passages(["a", wrong])
    assert api.calls == []


# Kills, reruns, other processes


CHILD = """
import sys
from tercet.modeling.encoders.cohere import CohereEncoder
texts = [f"text {i}" for i in range(200)]
settings = dict(output_dimension=8, dollars_per_million_tokens=2, texts_per_minute=1e9)
CohereEncoder("tiny", base_url=sys.argv[1], batch_size=20, **settings).encode_passages(texts)
"""


@pytest.mark.slow
def test_a_kill_amid_a_call_loses_that_call_alone(api: Api, tmp_path: Path) -> None:
    api.troubles = [Trouble(), Trouble(), Trouble(delay=60)]
    child = subprocess.Popen([sys.executable, "-c", CHILD, api.address], cwd=tmp_path)
    try:
        while len(api.calls) < 3:
            assert child.poll() is None
            time.sleep(0.02)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    texts = numbered(200)
    assert cached_texts(texts) == set(texts[:40])
    np.testing.assert_allclose(encoder(api).encode_passages(texts), expected(texts), atol=1e-6)
    assert [len(call.texts) for call in api.calls] == [20, 20, 20, 96, 64]
    assert not +api.again


def _encode(address: str, texts: list[str]) -> None:
    one = CohereEncoder("tiny", base_url=address, batch_size=5, **TINY, **HURRY)
    one.encode_passages(texts)


def test_kills_at_any_moment_lose_a_call_each_at_most(api: Api) -> None:
    texts = numbered(400)
    api.troubles = [Trouble(delay=0.01)] * 80  # the child does not end by itself
    context = multiprocessing.get_context("fork")
    chance = random.Random(0)
    safe: set[str] = set()
    for _ in range(6):
        before = len(api.calls)
        child = context.Process(target=_encode, args=(api.address, texts))
        child.start()
        calls = before + chance.randint(1, 6)
        while len(api.calls) < calls:
            time.sleep(1e-3)
        time.sleep(chance.uniform(0, 0.01))
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
        assert not safe & {text for call in api.calls[before:] for text in call.texts}
        now = cached_texts(texts)
        assert safe <= now
        safe = now
    assert safe
    np.testing.assert_allclose(encoder(api).encode_passages(texts), expected(texts), atol=1e-6)
    assert set(api.texts()) == set(texts)
    assert len(api.texts()) <= len(texts) + 6 * 5  # each kill lost a call of five at most


def test_processes_that_share_a_cache_do_not_pay_twice(api: Api) -> None:
    texts = numbered(60)
    api.troubles = [Trouble(delay=0.02)] * 20
    context = multiprocessing.get_context("fork")
    orders = [texts, texts[::-1], texts[30:] + texts[:30]]
    children = [context.Process(target=_encode, args=(api.address, order)) for order in orders]
    threads = [threading.Thread(target=_encode, args=(api.address, order)) for order in orders]
    for one in (*children, *threads):
        one.start()
    for one in (*children, *threads):
        one.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert sorted(api.texts()) == sorted(texts)


def test_what_is_cached_needs_no_key(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = numbered(3)
    encoder(api).encode_queries(texts)
    monkeypatch.delenv("CO_API_KEY")
    one = encoder(api)
    np.testing.assert_allclose(
        one.encode_queries(texts), expected(texts, "search_query"), atol=1e-6
    )
    assert one.forecast(texts, "query").texts == 0
    with refuses("no key to embed new texts with: set CO_API_KEY"):
        one.encode_queries(["new"])
    assert len(api.calls) == 1
    monkeypatch.setenv("COHERE_API_KEY", f"{KEY}\n")  # as a file ends
    encoder(api).encode_queries(["new"])


def cache_file(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "cohere" / "tiny-8" / "vectors.sqlite"


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE vectors SET vector = substr(vector, 1, 28)",
        "UPDATE vectors SET vector = zeroblob(32)",
        "UPDATE vectors SET crc = crc + 1",
    ],
)
def test_a_damaged_vector_is_refused_by_name(api: Api, tmp_path: Path, change: str) -> None:
    encoder(api).encode_queries(["a"])
    file = cache_file(tmp_path)
    with sqlite3.connect(file) as db:
        db.execute(change)
    with refuses(f"^{file} has a damaged vector: to buy it again, run") as refused:
        encoder(api).encode_queries(["a"])
    assert len(api.calls) == 1
    with sqlite3.connect(file) as db:  # as the message says
        db.execute(str(refused.value).split('"')[1])
    np.testing.assert_allclose(
        encoder(api).encode_queries(["a"]), expected(["a"], "search_query"), atol=1e-6
    )


def test_a_damaged_cache_is_refused_at_once(api: Api, tmp_path: Path) -> None:
    encoder(api)
    file = cache_file(tmp_path)
    file.write_bytes(b"no database" * 1_000)
    with refuses(f"^{file} cannot be used"):
        encoder(api)
    file.unlink()
    with refuses(f"^{file} cannot be used"):
        encoder(api)


@pytest.mark.fault("a full disk")
def test_a_full_disk_stops_it_and_keeps_what_is_there(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = sqlite3.connect

    def small(*args: Any, **kwargs: Any) -> sqlite3.Connection:
        db = connect(*args, **kwargs)
        db.execute("PRAGMA max_page_count = 8")
        return db

    encoder(api).encode_passages(numbered(10))
    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        with pytest.raises(OSError, match=r"No space left on device: '.*vectors.sqlite'"):
            encoder(api).encode_passages(numbered(2_000))
    assert set(numbered(10)) <= cached_texts(numbered(20))


# Money and pace


def bill(api: Api) -> float:
    return api.billed * PRICE / 1e6


@pytest.mark.fault("an API under load")
@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30),
    cents=st.floats(0, 1.2),
    batch_size=st.integers(1, 12),
    seed=st.integers(0, 99),
)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_budget_is_not_passed_by_the_servers_own_bill(
    api: Api,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    lengths: list[int],
    cents: float,
    batch_size: int,
    seed: int,
) -> None:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / uuid.uuid4().hex))
    texts = [f"{i}".rjust(length, "é") for i, length in enumerate(lengths)]
    budget = cents * sum(len(text.encode()) for text in texts) * PRICE / 1e6
    api.billed, api.troubles = 0, storm(seed, 10)
    one = encoder(api, dollars=budget, batch_size=batch_size, tries=100, longest_wait=0.01)
    try:
        vectors = one.encode_passages(texts)
        np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    except InputError as stop:
        left = one.forecast(texts).texts
        assert "could be passed" in str(stop) and f" {left} have no vector" in str(stop)
        assert left
    api.troubles = []
    assert bill(api) <= budget + 1e-12  # what was cut amid its answer is billed there too
    assert one.spent <= bill(api) + 1e-12
    encoder(api).encode_passages(texts)
    assert not +api.again
    api.again.clear(), api.answered.clear()


def test_the_budget_is_used_as_far_as_calls_fit() -> None:
    texts = [f"word number {i:03}" for i in range(100)]  # 15 bytes, and two tokens for its ends
    with serve(KEY, tokens=lambda text: len(text.split())) as api:
        one = encoder(api, dollars=0.0005, batch_size=5)
        with refuses(r"\$0.00036 is spent, and the next 5 texts cost at most \$0.00017"):
            one.encode_passages(texts)
        assert len(api.calls) == 12
        assert one.spent == pytest.approx(bill(api))
        again = encoder(api, dollars=0.0005, batch_size=5)
        assert again.forecast(texts).texts == 40
        again.encode_passages(texts)  # a run's budget is its own
        assert one.spent + again.spent == pytest.approx(bill(api))
        assert sorted(api.texts()) == sorted(texts)


def test_a_budget_of_nothing_sends_nothing(api: Api) -> None:
    with refuses(
        r"budget of \$0.00 could be passed: \$0.00 is spent.* Of 2 texts 2 .*, for about \$"
    ):
        encoder(api, dollars=0).encode_passages(["a", "b"])
    assert api.calls == []


def test_a_bill_that_is_missing_counts_as_its_most(api: Api) -> None:
    api.troubles = [Trouble(alter=lambda answer: answer.pop("meta"))] * 20
    one = encoder(api, dollars=100 * PRICE / 1e6, batch_size=1)
    with refuses("could be passed"):
        one.encode_passages(numbered(20))
    assert 0 < bill(api) <= one.spent <= 100 * PRICE / 1e6


def test_a_forecast_is_on_the_dear_side_and_sends_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch, tiny_texts: list[str]
) -> None:
    encoder(api).encode_passages(tiny_texts[:10])
    monkeypatch.delenv("CO_API_KEY")
    calls = len(api.calls)
    texts, tokens, dollars = encoder(api).forecast(tiny_texts * 2)
    assert texts == len(set(tiny_texts)) - 10
    words = sum(len(text.split()) for text in set(tiny_texts[10:]))
    assert 1.2 * words < tokens < 4 * words
    assert dollars == pytest.approx(tokens * PRICE / 1e6)
    assert len(api.calls) == calls
    assert CohereEncoder("tiny", output_dimension=8).forecast(["a"]).dollars is None


@given(st.text(min_size=1, max_size=30))
def test_tokens_are_bounded_by_the_bytes_of_any_form(text: str) -> None:
    text = text.encode(errors="ignore").decode()
    most = api_account.most_tokens([text])
    assert most > len(text.encode())
    assert api_account.most_tokens(["\ufdfa"]) > 18  # a ligature of eighteen letters
    assert api_account.tokens_of(text) <= most


def test_the_pace_is_kept(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = numbered(40)
    one = encoder(api, batch_size=10, texts_per_minute=60 * 100)
    start = time.monotonic()
    one.encode_passages(texts)
    assert time.monotonic() - start >= 0.3  # a tenth of a second after each call but the last
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    one.encode_passages(texts)
    assert not any(slept)  # what is cached keeps no pace


# Settings


@pytest.mark.parametrize("model", ["embed-multilingual-v2.0", "multilingual-22-12"])
def test_the_model_of_22_12_is_refused_with_three_ways_on(model: str) -> None:
    with refuses(
        f"^{model}, the space of Cohere's 22-12 vectors, was retired on 2026-04-04"
    ) as refused:
        CohereEncoder(model)
    told = str(refused.value)
    for way in ("-queries-22-12 datasets, which work without a key", "adapted query encoder"):
        assert way in told
    assert "embed-multilingual-v3.0, about $10.00 or embed-v4.0, about $12.00 for a million" in told
    assert "\n" not in told


def test_the_price_of_embedding_anew_can_be_that_of_a_corpus() -> None:
    with refuses(r"v3.0, about \$0.10 or embed-v4.0, about \$0.12 for these passages"):
        refuse_retired("multilingual-22-12", ["a" * 300] * 10_000)
    refuse_retired("embed-v4.0", ["a"])


@pytest.mark.parametrize(
    ("model", "settings", "match"),
    [
        ("embed-v5", {}, "'embed-v5' is none of embed-v4.0, .*: set its output_dimension"),
        ("embed-v5", {"output_dimension": 8, "dollars": 1}, "price of 'embed-v5' is not known"),
        ("embed-v4.0", {"output_dimension": 100}, "is 100, and can be 1536, 1024, 512, 256"),
        ("embed-english-v3.0", {"output_dimension": 512}, "is 512, and can be 1024"),
        ("embed-v5", {"output_dimension": 0}, "is 0, and can be 1 or more"),
        ("embed-v4.0", {"batch_size": 97}, "batch_size is 97"),
        ("embed-v4.0", {"batch_size": 0}, "batch_size is 0"),
        ("embed-v4.0", {"dollars": -1}, "dollars is -1"),
        ("embed-v4.0", {"dollars": math.nan}, "dollars is nan"),
        ("embed-v4.0", {"dollars_per_million_tokens": -1}, "dollars_per_million_tokens is -1"),
        ("embed-v4.0", {"texts_per_minute": 0}, "texts_per_minute is 0"),
        ("embed-v4.0", {"tries": 0}, "tries is 0"),
        ("embed-v4.0", {"backoff": -1}, "backoff is -1"),
        ("embed-v4.0", {"longest_wait": math.inf}, "longest_wait is inf"),
        ("embed-v4.0", {"timeout": 0}, "timeout is 0"),
        ("embed-v4.0", {"base_url": "api.cohere.com"}, "base_url, or CO_API_URL, is no address"),
    ],
)
def test_what_cannot_be_is_refused(model: str, settings: dict[str, Any], match: str) -> None:
    with refuses(match):
        CohereEncoder(model, **settings)


def test_the_address_may_come_from_the_environment(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CO_API_URL", api.address)  # after the SDK was imported
    CohereEncoder("tiny", tries=1, **TINY).encode_queries(["a"])
    assert len(api.calls) == 1


def test_a_library_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cohere, "_INSTALLED", False)
    with refuses(r"cohere is not installed: pip install 'tercet\[cohere\]'"):
        CohereEncoder("embed-v4.0")


def test_a_cache_that_cannot_be_made_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "file"))
    with refuses("cannot be made .*: set TERCET_CACHE"):
        CohereEncoder("embed-v4.0")


def test_long_work_shows_a_bar(api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    texts = numbered(600)
    encoder(api).encode_passages(texts, show_progress="embedding passages")
    assert "embedding passages: 600 passages in" in capsys.readouterr().out
    encoder(api).encode_passages(texts[:100], show_progress="embedding passages")
    assert capsys.readouterr().out == ""


# The key


def chain(error: BaseException | None) -> Iterator[BaseException]:
    while error:
        yield error
        error = error.__cause__ or error.__context__


@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(status=401, message=f"invalid api token {KEY}"),
        Trouble(status=403),
        Trouble(status=498),
        Trouble(status=400),  # says what Authorization was sent, as do those below
        Trouble(status=429, headers={"Retry-After": "99999"}),
        Trouble(status=500),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
        Trouble(alter=drop_last),
        Trouble(alter=lambda answer: answer["embeddings"].update(float=[KEY])),
    ],
    ids=lambda trouble: f"{trouble.status} {trouble.cut} {trouble.unframed} {bool(trouble.alter)}",
)
def test_the_key_is_told_nowhere(
    api: Api,
    tmp_path: Path,
    trouble: Trouble,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    one = encoder(api, tries=2)
    one.encode_queries(["a"])
    api.troubles = [trouble] * 2
    with pytest.raises(InputError) as caught:
        one.encode_queries(["b"])
    errors = list(chain(caught.value))
    assert [type(error) for error in errors] == [InputError]  # nothing of the SDK hangs on it
    told = [str(error) + repr(error) for error in errors]
    seen = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    assert len(seen.stack) > 2
    told += [repr(frame.locals) for frame in seen.stack if frame.filename != __file__]
    told += traceback.format_exception(caught.value)
    told += [repr(one), str(one), repr(vars(one)), caplog.text, *capfd.readouterr()]
    assert "httpcore" in caplog.text
    told += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert not [text for text in told if KEY in text]
    if trouble.status in (401, 403, 498):
        assert f"refuses the key in CO_API_KEY ({trouble.status})" in told[0]
        assert len(api.calls) == 2
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not copied or pickled"):
            leave(one)


def test_a_refused_key_is_called_by_its_variable(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CO_API_KEY")
    monkeypatch.setenv("COHERE_API_KEY", "stale")
    with refuses(r"127.0.0.1 refuses the key in COHERE_API_KEY \(401\)") as refused:
        encoder(api).encode_queries(["a"])
    assert "stale" not in str(refused.value) and len(api.calls) == 1


def test_a_key_that_is_none_is_refused_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in (f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}é"):
        monkeypatch.setenv("CO_API_KEY", key)
        with refuses("CO_API_KEY holds a blank or another character") as refused:
            CohereEncoder("embed-v4.0")
        assert KEY not in str(refused.value)
