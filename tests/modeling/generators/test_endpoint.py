"""Writers behind an API: whatever befalls it, no passage is paid twice and no budget passed."""

from __future__ import annotations

import copy
import json
import logging
import multiprocessing
import pickle
import random
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import Service, passage_of, serve_apis
from cohere_server import Trouble

from tercet.core.schema import Generator, InputError, Passage
from tercet.modeling import Completions, EndpointGenerator
from tercet.modeling.api_client import Patience
from tercet.modeling.generators.base import Sampling
from tercet.modeling.generators.prompts import STYLES

KEY = "sk_canary" + "7Qx" * 9
HURRY = Patience(tries=50, backoff=1e-3, longest_wait=0.05)
PRICES = {"dollars_per_million_read": 2.0, "dollars_per_million_written": 8.0}


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service() -> Iterator[Service]:
    with serve_apis(KEY) as service:
        yield service


def completions(service: Service, **settings: Any) -> Completions:
    given = {"endpoint": f"{service.address}/v1", "patience": HURRY} | settings
    return Completions("writer", **given)


def generator(service: Service, model: Completions | None = None, **how: Any) -> EndpointGenerator:
    return EndpointGenerator(model or completions(service), **how)


def passages(count: int) -> list[Passage]:
    return [
        Passage(f"p{i}", f"Keeper {i}", f"of the lamp number {i} by the sea") for i in range(count)
    ]


def expected(passage: Passage, count: int = 3) -> list[str]:
    words = passage.contents.split()
    return [" ".join(words[i : i + 3]) + f" {i}" for i in range(count)]


def refuses(match: str) -> Any:
    return pytest.raises(InputError, match=match)


# What it gives


def test_each_passage_is_one_structured_answer(service: Service) -> None:
    writer: Generator = generator(service, style="question", prompt=STYLES["question"].prompt)
    some = passages(5)
    assert writer.generate(some, 3, seed=1) == [expected(each) for each in some]
    assert writer.name == "writer (question)"
    assert len(service.calls) == 5
    body = service.calls[0].body
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["queries"]
    assert body["max_tokens"] == 64 * 3 + 256 and body["temperature"] == 0.7
    assert "Question that the passage answers:" in service.calls[0].prompt
    # Whatever the order and the seed, they are not paid for again.
    assert writer.generate(some[::-1], 3, seed=2) == [expected(each) for each in some[::-1]]
    assert len(service.calls) == 5


def test_examples_and_prompts_are_those_of_local_models(service: Service) -> None:
    writer = generator(service, prompt="Passage: {passage}\nAsk:", examples=[("A {n} b", "what")])
    writer.generate(passages(1), 2, seed=0)
    prompt = service.calls[0].prompt
    assert "Passage: A {n} b\nAsk: what\n\n" in prompt
    assert prompt.endswith("Passage: Keeper 0 of the lamp number 0 by the sea\nAsk:")
    with refuses("must hold {passage} once"):
        generator(service, prompt="Ask:")


def test_a_completion_model_continues_the_examples(service: Service) -> None:
    writer = generator(service, api="completion", sampling=Sampling(max_new_tokens=20))
    assert writer.generate(passages(1), 2, seed=0) == [["Keeper 0 of", "0 of the"]]
    body = service.calls[0].body
    assert service.calls[0].path == "/v1/completions"
    assert (body["n"], body["stop"], body["max_tokens"]) == (2, ["\n"], 20)
    assert body["prompt"].startswith("Passage: The hair of a violin bow")


def test_requests_are_sent_at_the_same_time_and_no_more(service: Service) -> None:
    service.delay = 0.05
    writer = generator(service, completions(service, concurrency=6))
    start = time.monotonic()
    writer.generate(passages(24), 1, seed=0)
    assert time.monotonic() - start < 24 * 0.05
    assert service.most_at_once == 6


def test_a_rate_limit_is_kept(service: Service) -> None:
    writer = generator(service, completions(service, requests_per_minute=60 * 50))
    start = time.monotonic()
    writer.generate(passages(11), 1, seed=0)
    assert time.monotonic() - start >= 10 / 50


def test_long_passages_are_cut_and_counted(service: Service) -> None:
    writer = generator(service, passage_tokens=10)
    writer.generate([Passage("p", "", "word " * 100), Passage("q", "", "short")], 1, seed=0)
    assert sorted(len(passage_of(call.prompt)) for call in service.calls) == [5, 29]
    assert writer.counts["cut"] == 1
    assert writer.counts["tokens"] == service.billed["read"]
    assert writer.counts["written"] == service.billed["written"]


# What goes wrong


def storm(seed: int, length: int) -> list[Trouble]:
    kinds = [
        *[Trouble()] * 3,
        Trouble(status=429, headers={"Retry-After": "0.01"}),
        Trouble(status=429),
        Trouble(status=500),
        Trouble(status=503, headers={"Retry-After": "junk"}),
        Trouble(status=502),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
        Trouble(alter=lambda answer: answer.pop("choices")),
        Trouble(alter=lambda answer: answer.update(choices=[])),
    ]
    return random.Random(seed).choices(kinds, k=length)


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_delays_and_nothing_answered_is_sent_again(service: Service, seed: int) -> None:
    service.troubles = storm(seed, 60)
    some = passages(40)
    assert generator(service).generate(some, 3, seed=0) == [expected(each) for each in some]
    assert not +service.again
    before = len(service.calls)
    assert generator(service).generate(some, 3, seed=0) == [expected(each) for each in some]
    assert len(service.calls) == before


@pytest.mark.fault("an API under load")
def test_retry_after_holds_all_requests_back(service: Service) -> None:
    service.troubles = [Trouble(status=429, headers={"Retry-After": "0.4"})]
    patience = Patience(backoff=1e-3)
    generator(service, completions(service, patience=patience, concurrency=2)).generate(
        passages(6), 1, seed=0
    )
    first = service.calls[0].time
    later = [call.time for call in service.calls[2:]]  # two were on their way
    assert all(each - first >= 0.4 for each in later)


@pytest.mark.parametrize(
    ("write", "found"),
    [
        (lambda _: '{"queries": ["one", "tw', ["one"]),
        (lambda _: '{"queries": ["one"]}', ["one"]),
        (lambda _: '{"queries": ["a", "b", "c", "d", "e"]}', ["a", "b", "c"]),
        (lambda prompt: prompt + ' {"queries": ["one"]}', ["one"]),
        (lambda prompt: prompt, []),
        (lambda _: "<think>\nHm, {}</think>\n1. one\n2. two", ["one", "two"]),
        (lambda _: "<think>\nHm, one and two and", []),
        (lambda _: "", []),
    ],
)
def test_an_answer_of_any_form_is_read_once(
    service: Service, write: Callable[[str], str], found: list[str]
) -> None:
    service.write = write
    writer = generator(service)
    assert writer.generate(passages(2), 3, seed=0) == [found, found]
    assert writer.counts["fewer"] == (2 if 0 < len(found) < 3 else 0)
    assert writer.counts["empty"] == (0 if found else 2)
    assert generator(service).generate(passages(2), 3, seed=0) == [found, found]
    assert len(service.calls) == 2, "it was paid for, whatever it was"


def test_thoughts_in_a_field_of_their_own_are_left_out(service: Service) -> None:
    def think(answer: dict[str, Any]) -> None:
        message = answer["choices"][0]["message"]
        message["reasoning_content"] = '{"queries": ["a thought"]}'
        message["content"] = [{"type": "text", "text": message["content"]}]

    service.troubles = [Trouble(alter=think)]
    assert generator(service).generate(passages(1), 2, seed=0) == [expected(passages(1)[0], 2)]


def test_a_model_that_only_thinks_is_refused_before_it_is_paid_for_long(service: Service) -> None:
    def cut(answer: dict[str, Any]) -> None:
        answer["choices"][0] |= {"finish_reason": "length"}

    service.write = lambda _: "<think>Let me see."
    service.troubles = [Trouble(alter=cut)] * 16
    with refuses(
        "writer: none of 16 answers holds a query .cut off: .<think>Let me see..*max_new_tok"
    ):
        generator(service).generate(passages(16), 1, seed=0)
    with refuses("none of 16 answers"):
        generator(service).generate(passages(16), 1, seed=0)
    assert len(service.calls) == 16


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("response_format", "This model does not support json_schema"),
        ("response_format", "unknown parameter: response_format"),
        ("temperature", "Unsupported value: 'temperature' does not support 0.7"),
        ("top_p", "Unsupported parameter: 'top_p'"),
        ("max_tokens", "Unsupported parameter: use 'max_completion_tokens' instead"),
    ],
)
def test_what_a_service_does_not_take_is_left_out(
    service: Service, field: str, message: str
) -> None:
    service.refusals = {field: (400, message)}
    some = passages(6)
    writer = generator(service, completions(service, concurrency=2))
    assert writer.generate(some, 3, seed=0) == [expected(each) for each in some]
    assert not +service.again and sum(field in call.body for call in service.calls) <= 2
    if field == "max_tokens":
        assert service.calls[-1].body["max_completion_tokens"] == 448
    # What is left out does not change what was paid for.
    generator(service).generate(some, 3, seed=0)
    assert not +service.again


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize(
    ("trouble", "match"),
    [
        (Trouble(status=400, message="too long"), "answers 400 .too long"),
        (Trouble(status=404, message="no model"), "404 .no model.: check the endpoint"),
        (Trouble(status=402), "answers 402"),
        (Trouble(status=429, headers={"Retry-After": "86400"}), "asks to wait 86,400 s"),
        (Trouble(status=429, message="You exceeded your current quota"), "answers 429"),
        (Trouble(status=429, message="insufficient_quota"), "answers 429 .insufficient_quota"),
    ],
)
def test_what_no_other_try_can_mend_is_not_tried_again(
    service: Service, trouble: Trouble, match: str
) -> None:
    service.troubles = [trouble] * 9
    with refuses(f"^writer: 127.0.0.1 .*{match}.* Of 1 requests 1 have no answer"):
        generator(service, api="completion").generate(passages(1), 1, seed=0)
    assert len(service.calls) == 1


# Kills


def _write(address: str, count: int) -> None:
    model = Completions("writer", endpoint=f"{address}/v1", patience=HURRY, concurrency=3)
    EndpointGenerator(model).generate(passages(count), 2, seed=0)


def test_kills_at_any_moment_lose_the_calls_on_their_way_alone(service: Service) -> None:
    service.delay = 0.01
    context, chance = multiprocessing.get_context("fork"), random.Random(0)
    for _ in range(5):
        before = len(service.calls)
        child = context.Process(target=_write, args=(service.address, 80))
        child.start()
        calls = before + chance.randint(3, 12)
        while len(service.calls) < calls:
            assert child.is_alive()
            time.sleep(1e-3)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    some = passages(80)
    found = generator(service).generate(some, 2, seed=0)
    assert found == [expected(each, 2) for each in some]
    assert sum(service.again.values()) <= 5 * 3


def test_processes_that_share_a_cache_do_not_pay_twice(service: Service) -> None:
    service.delay = 0.01
    context = multiprocessing.get_context("fork")
    children = [context.Process(target=_write, args=(service.address, 30)) for _ in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    assert len(service.calls) == 30


# Money


@pytest.mark.parametrize("seed", range(4))
def test_a_budget_in_dollars_is_not_passed_by_the_servers_own_bill(
    service: Service, seed: int
) -> None:
    service.troubles = storm(seed, 20)
    budget = 0.0135 + 0.004 * seed
    model = completions(service, dollars=budget, concurrency=4, **PRICES)
    with refuses(r"the budget of \$0.0\d+ could be passed: .* Of 400 requests \d+ have no answer"):
        generator(service, model).generate(passages(400), 2, seed=0)
    bill = 2e-6 * service.billed["read"] + 8e-6 * service.billed["written"]
    assert 0 < bill <= budget and model.spent <= bill + 1e-12
    assert service.calls


def test_a_budget_in_tokens_stops_and_another_run_goes_on(service: Service) -> None:
    with refuses("the budget of 9,000 tokens could be passed: [0-9,]+ are used, and the next"):
        generator(service, completions(service, tokens=9_000)).generate(passages(100), 2, seed=0)
    assert 3_000 < service.billed["read"] + service.billed["written"] <= 9_000
    generator(service).generate(passages(100), 2, seed=0)
    assert len(service.calls) == 100


def test_a_bill_that_is_missing_counts_as_its_most(service: Service) -> None:
    service.usage = False
    with refuses("could be passed"):
        generator(service, completions(service, tokens=20_000)).generate(passages(100), 2, seed=0)
    assert len(service.calls) <= 20_000 / 384


def test_a_budget_needs_prices(service: Service) -> None:
    with refuses("needs the prices of 'writer': set dollars_per_million_read"):
        completions(service, dollars=1.0, dollars_per_million_read=1.0)
    assert generator(service).dollars(10, 10) is None
    priced = generator(service, completions(service, **PRICES))
    assert priced.dollars(1e6, 1e6) == pytest.approx(10.0)


# The judge


def test_a_judge_drops_what_it_finds_unanswerable(service: Service) -> None:
    asked = iter(['{"queries": ["one", "unanswerable"]}', '{"queries": ["unanswerable"]}'])
    write = service.write
    service.write = lambda prompt: write(prompt) if '"grades"' in prompt else next(asked)
    writer = generator(service, completions(service, concurrency=1), judge="judge")
    assert writer.generate(passages(2), 2, seed=0) == [["one"], []]
    assert writer.counts["unanswerable"] == 2 and writer.counts["ungraded"] == 0
    assert [call.body["model"] for call in service.calls] == ["writer"] * 2 + ["judge"] * 2
    assert "1. one\n2. unanswerable" in service.calls[2].prompt
    assert writer.counts["tokens"] == service.billed["read"]


def test_what_a_judge_does_not_grade_is_kept_and_counted(service: Service) -> None:
    write = service.write
    service.write = lambda prompt: "Good!" if '"grades"' in prompt else write(prompt)
    writer = generator(service, judge="judge")
    assert writer.generate(passages(2), 2, seed=0) == [expected(each, 2) for each in passages(2)]
    assert writer.counts["ungraded"] == 4 and writer.counts["unanswerable"] == 0


# The key


@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    "trouble",
    [
        Trouble(status=401, message=f"invalid api token {KEY}"),
        Trouble(status=403),
        Trouble(status=400),  # says what Authorization was sent, as do those below
        Trouble(status=429, headers={"Retry-After": "99999"}),
        Trouble(status=500),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
        Trouble(alter=lambda answer: answer.update(choices=KEY)),
    ],
    ids=lambda trouble: f"{trouble.status} {trouble.cut} {trouble.unframed} {bool(trouble.alter)}",
)
@pytest.mark.parametrize("concurrency", [1, 3])
def test_the_key_is_told_nowhere(
    service: Service,
    tmp_path: Path,
    trouble: Trouble,
    concurrency: int,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    patience = Patience(tries=2, backoff=1e-3)
    model = completions(service, patience=patience, concurrency=concurrency)
    writer = generator(service, model, api="completion")
    writer.generate(passages(1), 1, seed=0)
    service.troubles = [trouble] * 9
    with pytest.raises(InputError) as caught:
        writer.generate(passages(4), 1, seed=0)
    assert caught.value.__cause__ is None and caught.value.__suppress_context__
    seen = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    told = [str(caught.value), *(repr(f.locals) for f in seen.stack if f.filename != __file__)]
    told += traceback.format_exception(caught.value)
    told += [repr(vars(each)) for each in (writer, model, model.connection)]
    told += [caplog.text, *capfd.readouterr()]
    told += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    assert "httpcore" in caplog.text
    assert not [text for text in told if KEY in text]
    for leave in (pickle.dumps, copy.deepcopy):
        with pytest.raises(TypeError):
            leave(model.connection)


def test_a_key_that_is_none_is_refused_unseen(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    for key in (f"{KEY} {KEY}", f"{KEY}\n{KEY}", f"{KEY}é"):
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with refuses("OPENAI_API_KEY holds a blank or another character") as refused:
            completions(service)
        assert KEY not in str(refused.value)
        seen = traceback.TracebackException.from_exception(refused.value, capture_locals=True)
        assert KEY not in repr([f.locals for f in seen.stack if f.filename != __file__])


def test_a_key_of_another_variable_and_none_at_all(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", f"{KEY}\n")  # as a file ends
    monkeypatch.setenv("OPENAI_API_KEY", "stale")
    with refuses(r"127.0.0.1 refuses the key in OPENAI_API_KEY \(401\)"):
        generator(service).generate(passages(1), 1, seed=0)
    generator(service, completions(service, key_variable="OTHER_KEY")).generate(passages(1), 1, 0)
    with refuses("asks for a key .401.: set NO_KEY in the environment"):
        model = completions(service, key_variable="NO_KEY")
        model.connection.check()
    with refuses("key_variable is the name of an environment variable"):
        completions(service, key_variable=KEY + "-")


@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    ("endpoint", "match"),
    [
        ("localhost:8000", "is not a URL that begins with https"),
        ("https://me:pass@host/v1", "holds more than a URL"),
        ("https://host/v1?api_key=abc", "holds more than a URL"),
        ("http://example.org/v1", "OPENAI_API_KEY would be sent in the clear"),
    ],
)
def test_an_address_that_would_tell_the_key_is_refused(endpoint: str, match: str) -> None:
    with refuses(match):
        Completions("writer", endpoint=endpoint)
    Completions("writer", endpoint="https://x.azure.com/openai/v1?api-version=2024-10-21")


def test_a_service_that_is_not_there_is_told_before_work() -> None:
    with refuses("127.0.0.1 does not answer .ConnectError.: check the endpoint"):
        Completions("writer", endpoint="http://127.0.0.1:9/v1").connection.check()


def test_azure_reads_another_header(service: Service) -> None:
    model = completions(service)
    request = model.connection._client.build_request("POST", "https://a.azure.com/openai/v1")
    next(model.connection._client.auth.auth_flow(request))  # type: ignore[union-attr]
    assert request.headers["api-key"] == KEY and KEY not in json.dumps(repr(model.connection))
