"""Vectors of `/v1/embeddings`: as the service made them, none paid twice, no budget passed."""

from __future__ import annotations

import json
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
from api_server import Service, serve_apis
from cohere_server import Trouble, vector
from sentence_transformers import SentenceTransformer

from tercet.core.schema import Encoder, InputError
from tercet.modeling import BiEncoder, open_service
from tercet.modeling.api_client import Patience
from tercet.modeling.encoders.openai import OpenAIEncoder

KEY = "sk_canary" + "7Qx" * 9
HURRY = Patience(tries=50, backoff=1e-3, longest_wait=0.05)
PRICE = 2.0  # dollars a million tokens


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def service() -> Iterator[Service]:
    with serve_apis(KEY) as service:
        yield service


def encoder(service: Service, **settings: Any) -> OpenAIEncoder:
    given = {"endpoint": f"{service.address}/v1", "patience": HURRY} | settings
    return OpenAIEncoder("m", **given)


def numbered(count: int) -> list[str]:
    return [f"text {i}" for i in range(count)]


def expected(texts: list[str], width: int = 8) -> np.ndarray:
    rows = [vector("m", "", text, width) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, width)


def sent(service: Service) -> list[str]:
    texts = [text for call in service.calls for text in call.body["input"]]
    return [text for text in texts if text != "length of a vector"]


def refuses(match: str) -> Any:
    return pytest.raises(InputError, match=match)


def test_the_protocol_is_kept(service: Service) -> None:
    protocol: Encoder = encoder(service)
    texts = numbered(100)
    assert (protocol.name, protocol.dimension) == ("m", 8)
    passages = protocol.encode_passages([*texts, *texts[::-1]])
    assert passages.dtype == np.float32
    np.testing.assert_allclose(passages, expected([*texts, *texts[::-1]]), atol=1e-6)
    np.testing.assert_allclose(protocol.encode_queries(texts[:3]), expected(texts[:3]), atol=1e-6)
    assert protocol.encode_passages([]).shape == (0, 8)
    # Queries are read as passages are: none was sent again.
    assert sorted(sent(service)) == sorted(texts) and not +service.again


def test_prompts_are_added_here_and_kept_apart(service: Service) -> None:
    one = encoder(service, query_prompt="query: ", passage_prompt="passage: ")
    np.testing.assert_allclose(one.encode_queries(["a"]), expected(["query: a"]), atol=1e-6)
    np.testing.assert_allclose(one.encode_passages(["a"]), expected(["passage: a"]), atol=1e-6)


def test_services_that_tell_queries_apart_are_told(service: Service) -> None:
    requests = {"query_request": {"input_type": "query"}, "passage_request": {"input_type": "p"}}
    one = encoder(service, **requests)
    one.encode_queries(["a"])
    one.encode_passages(["a"])
    assert [call.body.get("input_type") for call in service.calls] == [None, "query", "p"]


def test_dimensions_are_asked_for_where_they_are_not_the_models_own(service: Service) -> None:
    assert encoder(service, dimension=4).encode_queries(["a"]).shape == (1, 4)
    assert encoder(service, dimension=8).encode_queries(["a"]).shape == (1, 8)
    assert [call.body.get("dimensions") for call in service.calls] == [None, 4, None]
    assert encoder(service, dimension=4).forecast(["a"]).texts == 0
    listed = OpenAIEncoder("text-embedding-3-small", endpoint=f"{service.address}/v1")
    assert listed.dimension == 1536 and listed.price(["a" * 3_000_000]) == pytest.approx(0.02)
    assert len(service.calls) == 3


def test_dot_products_keep_the_lengths_of_vectors(service: Service) -> None:
    service.embed = lambda texts, width: [[3.0] * width for _ in texts]
    assert np.allclose(encoder(service, similarity="dot").encode_queries(["a"]), 3.0)
    assert np.allclose(np.linalg.norm(encoder(service).encode_queries(["a"])), 1.0)


def test_batches_are_of_texts_and_of_tokens(service: Service) -> None:
    texts = [f"{i:03}" + "x" * 97 for i in range(30)]
    encoder(service, batch_size=20, concurrency=1).encode_passages(texts)
    assert [len(call.body["input"]) for call in service.calls] == [1, 20, 10]
    service.calls.clear()
    texts = [f"{i:03}" + "y" * 97 for i in range(30)]
    encoder(service, batch_tokens=1_020, concurrency=1).encode_passages(texts)
    assert [len(call.body["input"]) for call in service.calls] == [10, 10, 10]


def test_a_batch_that_a_server_refuses_is_halved(service: Service) -> None:
    service.most_texts = 32  # as of TEI
    texts = numbered(200)
    one = encoder(service, concurrency=1)
    np.testing.assert_allclose(one.encode_passages(texts), expected(texts), atol=1e-6)
    assert not +service.again
    service.calls.clear()
    one.encode_passages([f"more {i}" for i in range(100)])
    assert max(len(call.body["input"]) for call in service.calls) <= 32


def test_long_texts_are_cut_where_a_limit_is_known(service: Service) -> None:
    encoder(service, max_length=4).encode_passages(["word " * 10])
    assert sent(service) == ["word word"]
    service.refusals = {"input": (400, "maximum context length is 8192 tokens")}
    with refuses("maximum context length is 8192 tokens.*for 'long': set model.max_length"):
        encoder(service).encode_passages(["long"])


def storm(seed: int, length: int) -> list[Trouble]:
    kinds = [
        *[Trouble()] * 4,
        Trouble(status=429, headers={"Retry-After": "0.01"}),
        Trouble(status=429),
        Trouble(status=500),
        Trouble(status=502),
        Trouble(cut=True),
        Trouble(cut=True, unframed=True),
    ]
    return random.Random(seed).choices(kinds, k=length)


@pytest.mark.fault("an API under load")
@pytest.mark.parametrize("seed", range(3))
def test_a_storm_delays_and_nothing_answered_is_sent_again(service: Service, seed: int) -> None:
    service.troubles = storm(seed, 60)
    texts = numbered(300)
    vectors = encoder(service, batch_size=10).encode_passages(texts)
    np.testing.assert_allclose(vectors, expected(texts), atol=1e-6)
    assert set(sent(service)) == set(texts) and not +service.again


def change(at: int, row: Any) -> Callable[[dict[str, Any]], None]:
    def alter(answer: dict[str, Any]) -> None:
        if len(answer["data"]) > 1:
            answer["data"][at]["embedding"] = row

    return alter


@pytest.mark.fault("an API's wrong answer")
@pytest.mark.parametrize(
    ("alter", "match"),
    [
        (lambda answer: answer["data"].pop(), "answered no vectors of 5 texts"),
        (lambda answer: answer.update(data=None), "answered no vectors of 5 texts"),
        (lambda answer: answer["data"][0].update(index=0), "answered no vectors of 5 texts"),
        (change(0, [0.1] * 7), "answered no 5 vectors of 8 numbers"),
        (change(0, [0.0] * 8), "not finite or is zero"),
        (change(0, [math.nan] * 8), "not finite or is zero"),
        (change(0, "AAAA"), "answered no 5 vectors of 8 numbers"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_and_not_kept(
    service: Service, alter: Callable[[dict[str, Any]], None], match: str
) -> None:
    texts = numbered(5)
    one = encoder(service)
    assert one.dimension == 8
    service.troubles = [Trouble(alter=alter)]
    with refuses(f"^m: 127.0.0.1 .*{match}.*Of 5 texts 5 have no vector"):
        one.encode_passages(texts)
    assert len(service.calls) == 2
    np.testing.assert_allclose(one.encode_passages(texts), expected(texts), atol=1e-6)


def _encode(address: str, texts: list[str]) -> None:
    one = OpenAIEncoder("m", endpoint=f"{address}/v1", batch_size=5, concurrency=2, patience=HURRY)
    one.encode_passages(texts)


def test_kills_at_any_moment_lose_the_calls_on_their_way_alone(service: Service) -> None:
    texts = numbered(400)
    service.delay = 0.01
    context, chance = multiprocessing.get_context("fork"), random.Random(0)
    for _ in range(5):
        calls = len(service.calls) + chance.randint(2, 8)
        child = context.Process(target=_encode, args=(service.address, texts))
        child.start()
        while len(service.calls) < calls:
            assert child.is_alive()
            time.sleep(1e-3)
        child.kill()
        child.join()
        assert child.exitcode == -signal.SIGKILL
    np.testing.assert_allclose(encoder(service).encode_passages(texts), expected(texts), atol=1e-6)
    assert set(sent(service)) == set(texts)
    assert len(sent(service)) <= len(texts) + 5 * 2 * 5


def test_a_budget_is_not_passed_and_another_run_goes_on(service: Service) -> None:
    texts = [f"word number {i:03} of many" for i in range(200)]
    budget = 0.0014
    one = encoder(
        service, dollars=budget, dollars_per_million_tokens=PRICE, batch_size=5, concurrency=3
    )
    service.troubles = storm(1, 20)
    with refuses(r"the budget of \$0.0014 could be passed.* of 200 texts \d+ have no vector"[:40]):
        one.encode_passages(texts)
    assert 0 < one.spent <= service.billed["read"] * PRICE / 1e6 + 1e-12 <= budget + 1e-12
    with refuses("200 texts cost about|texts cost about .* and the budget is"):
        encoder(service, dollars=0, dollars_per_million_tokens=PRICE).check_means({"query": ["z"]})
    service.troubles = []
    encoder(service).encode_passages(texts)
    assert not +service.again


def test_what_is_cached_needs_no_key(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    encoder(service).encode_queries(["a"])
    monkeypatch.delenv("OPENAI_API_KEY")
    calls = len(service.calls)
    encoder(service).encode_queries(["a"])
    assert len(service.calls) == calls
    with refuses("asks for a key .401.: set OPENAI_API_KEY in the environment"):
        encoder(service).encode_queries(["new"])
    cloud = open_service("openai", "text-embedding-3-small")
    with refuses("embeds every query: set OPENAI_API_KEY"):
        cloud.check()
    with refuses("there is no key to embed new texts with"):
        cloud.encode("new")


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"dollars": 1}, "price of 'm' is not known: set dollars_per_million_tokens"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"dimension": 0}, "dimension is 0"),
        ({"endpoint": "http://example.org/v1"}, "OPENAI_API_KEY would be sent in the clear"),
    ],
)
def test_what_cannot_be_is_refused(service: Service, settings: dict[str, Any], match: str) -> None:
    with refuses(match):
        encoder(service, **settings)


@pytest.mark.fault("secrets")
@pytest.mark.parametrize(
    "trouble",
    [Trouble(status=400), Trouble(status=401, message=f"bad {KEY}"), Trouble(cut=True)],
    ids=["400", "401", "cut"],
)
def test_the_key_is_told_nowhere(
    service: Service, tmp_path: Path, trouble: Trouble, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    one = encoder(service, patience=Patience(tries=2, backoff=1e-3))
    one.encode_queries(["a"])
    service.troubles = [trouble] * 9
    with pytest.raises(InputError) as caught:
        one.encode_queries(["b"])
    seen = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
    told = [repr(frame.locals) for frame in seen.stack if frame.filename != __file__]
    told += [*traceback.format_exception(caught.value), repr(one), repr(vars(one)), caplog.text]
    told += [file.read_bytes().decode("latin-1") for file in tmp_path.rglob("*") if file.is_file()]
    told += [json.dumps(one.settings())]
    assert not [text for text in told if KEY in text]


def test_a_model_behind_the_api_is_the_model_itself(
    service: Service, tiny_encoder_path: Path
) -> None:
    model = SentenceTransformer(str(tiny_encoder_path), device="cpu")
    service.embed = lambda texts, width: model.encode(texts).astype(float).tolist()
    texts = ["a keeper of the lighthouse", "honey", "the lamp is lit at dusk"]
    own = BiEncoder.from_pretrained(tiny_encoder_path, precision="fp32")
    remote = encoder(service, similarity=own.similarity).encode_passages(texts)
    np.testing.assert_allclose(remote, own.encode_passages(texts), atol=1e-5)
