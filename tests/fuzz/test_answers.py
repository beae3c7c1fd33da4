"""Mutated answers of APIs, told by a server on loopback: used, or refused in one line."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, ClassVar

import pytest
from cohere_server import Server
from fuzz_runner import Target, fuzz

from tercet.config.chat import ChatSection
from tercet.core.schema import InputError, Passage
from tercet.modeling.api_client import Patience
from tercet.modeling.api_reranker import ApiReranker
from tercet.modeling.encoders.cohere import CohereEncoder
from tercet.modeling.encoders.openai import OpenAIEncoder
from tercet.modeling.generators.completions import Completions
from tercet.modeling.generators.endpoint import EndpointGenerator

pytestmark = pytest.mark.fault("fuzz")
EXAMPLES = 10  # of a target, here; `make fuzz` tries more

HURRY = Patience(tries=2, backoff=1e-3, longest_wait=0.01)
TEXTS = ["a lamp", "a lens"]
PAIRS = [("a lamp", "the lamp of a lighthouse"), ("a lamp", "a lens of glass")]
VECTORS = [[0.5, 0.25, -0.5, 1.0], [1.0, 0.0, 0.25, -1.0]]
SAID = json.dumps({"queries": ["who keeps the lamp?", "what is kept dry?"]})


class Handler(BaseHTTPRequestHandler):
    """Answers everything alike."""

    status: ClassVar[int]
    body: ClassVar[bytes]
    kind: ClassVar[str]

    def do_POST(self) -> None:  # noqa: N802
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Type", self.kind)
        self.end_headers()
        self.wfile.write(self.body)

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def answering(hint: str, body: bytes) -> Iterator[str]:
    """The address of a server with one answer; a hint that ends in a number has that status."""
    last = hint.rpartition(" ")[2]
    status = int(last) if last.isdigit() else 200
    kind = "text/event-stream" if hint.startswith("chat") else "application/json"
    answer = {"status": status, "body": body, "kind": kind}
    server = Server(("127.0.0.1", 0), type("Answers", (Handler,), answer))
    threading.Thread(target=server.serve_forever, args=(0.005,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def openai(address: str, hint: str) -> None:
    encoder = OpenAIEncoder("m", endpoint=f"{address}/v1", patience=HURRY)
    if "probe" not in hint:
        encoder._own = 4  # as of a model whose dimension is known
    encoder.encode_passages(TEXTS[:1] if "probe" in hint else TEXTS)


def cohere(address: str, _: str) -> None:
    given: dict[str, Any] = {"output_dimension": 4, "tries": 2, "backoff": 1e-3, "timeout": 10}
    CohereEncoder("tiny", base_url=address, longest_wait=0.01, **given).encode_passages(TEXTS)


def rerank(address: str, hint: str) -> None:
    api: Any = hint.split()[0]
    endpoint = f"{address}/v2" if api == "cohere" else address
    ApiReranker("m", api=api, endpoint=endpoint, patience=HURRY).score(PAIRS)


def writer(address: str, hint: str) -> None:
    """A writer, and a judge of what it writes; the answer of the one is that of the other."""
    model = Completions("m", endpoint=f"{address}/v1", patience=HURRY)
    api: Any = "completion" if hint.startswith("completion") else "chat"
    judge = "m" if "judge" in hint else None
    generator = EndpointGenerator(model, api=api, judge=judge)
    generator.generate([Passage("p", "", "The lamp of the lighthouse is kept dry.")], 2, 0)


def chat(address: str, _: str) -> None:
    """The answer is read as `Chat` reads it."""
    from langchain_core.output_parsers import StrOutputParser

    from tercet.serving.openai_endpoint import endpoint_model, explained

    section = ChatSection(model="m", endpoint=f"{address}/v1")
    model = endpoint_model(section)
    model.max_retries = 0
    with explained(section):
        "".join((model | StrOutputParser()).stream("who keeps the lamp?"))


def compact(value: Any) -> bytes:
    return json.dumps(value).encode()


def chunks() -> bytes:
    """A streamed answer in three pieces."""
    about = {"id": "0", "object": "chat.completion.chunk", "created": 0, "model": "m"}
    deltas: list[Any] = [{"role": "assistant", "content": "It is "}, {"content": "dry."}, {}]
    said = [
        {**about, "choices": [{"index": 0, "delta": each, "finish_reason": None}]}
        for each in deltas
    ]
    return b"".join(b"data: %s\n\n" % compact(each) for each in said) + b"data: [DONE]\n\n"


ROWS = [{"object": "embedding", "index": i, "embedding": VECTORS[i]} for i in (1, 0)]
USAGE = {"prompt_tokens": 4, "completion_tokens": 9, "total_tokens": 13}
BILLED = {"api_version": {"version": "2"}, "billed_units": {"input_tokens": 4, "search_units": 1}}
SCORES = [{"index": 1, "relevance_score": 0.9}, {"index": 0, "relevance_score": 0.25}]
MESSAGE = {"role": "assistant", "content": SAID}
CHOICE = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
REFUSED = compact({"error": {"message": "max_tokens is not supported", "code": "x"}})

#: Name -> (what calls the service, its valid answers by hint); one that begins "not" is refused.
SERVICES: dict[str, tuple[Callable[[str, str], None], list[tuple[str, bytes]]]] = {
    "OpenAI embeddings": (
        openai,
        [
            ("", compact({"data": ROWS, "model": "m", "usage": USAGE})),
            ("probe", compact({"data": ROWS[1:], "model": "m", "usage": USAGE})),
            ("not 400", REFUSED),
        ],
    ),
    "Cohere embeddings": (
        cohere,
        [
            ("", compact({"id": "0", "embeddings": {"float": VECTORS}, "texts": TEXTS} | {
                "meta": BILLED, "response_type": "embeddings_by_type"
            })),
        ],
    ),
    "rerank": (
        rerank,
        [
            ("cohere", compact({"results": SCORES, "meta": BILLED})),
            ("vllm", compact({"results": SCORES})),
            ("tei", compact([{"index": 1, "score": 3.5}, {"index": 0, "score": -2.0}])),
        ],
    ),
    "chat completions": (
        writer,
        [
            ("", compact({"choices": [CHOICE], "usage": USAGE})),
            ("judge", compact({"choices": [CHOICE], "usage": USAGE})),
            ("completion", compact({"choices": [{"index": 0, "text": " who?"}], "usage": USAGE})),
            ("not 400", REFUSED),
        ],
    ),
    "chat": (chat, [("chat", chunks()), ("not chat 400", REFUSED)]),
}  # fmt: skip


def settled(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip without the service's library; else set keys, a cache, and no proxy."""
    pytest.importorskip({"Cohere embeddings": "cohere", "chat": "langchain_openai"}.get(name, "os"))
    monkeypatch.setenv("TERCET_CACHE", str(folder / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for variable in ("OPENAI_API_KEY", "CO_API_KEY"):
        monkeypatch.setenv(variable, "canary-9Zq4")


@pytest.mark.parametrize("name", SERVICES)
def test_mutated_answers_are_used_or_refused_in_a_line(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(name, tmp_path, monkeypatch)
    call, seeds = SERVICES[name]

    def read(hint: str, data: bytes) -> None:
        shutil.rmtree(os.environ["TERCET_CACHE"], ignore_errors=True)
        with answering(hint, data) as address:
            call(address, hint)

    assert fuzz(Target(name, seeds, read, "json"), EXAMPLES).faults == {}


LONG, ODD = 10**400, {"index": []}
#: Answers that once were no message, and what is said of them; "" if they are used.
FOUND = [
    ("OpenAI embeddings", "probe", {"data": ROWS}, "answered no vectors of 1 texts"),
    ("OpenAI embeddings", "probe", {"data": [{"index": 0}]}, "answered 1 numbers where 1 x 1"),
    ("OpenAI embeddings", "", {"data": [ROWS[0], ROWS[1] | ODD]}, "answered no vectors of 2"),
    ("OpenAI embeddings", "", {"data": ROWS, "usage": {"prompt_tokens": LONG}}, ""),
    ("OpenAI embeddings", "", {"data": [ROWS[0], ROWS[1] | {"embedding": [LONG] * 4}]}, "no 2 v"),
    (
        "Cohere embeddings",
        "",
        {"embeddings": {"float": VECTORS}, "texts": ["a", {}]},
        "other texts",
    ),
    ("Cohere embeddings", "", {"embeddings": {"float": VECTORS}, "texts": 3}, "other texts"),
    ("rerank", "vllm", {"results": [SCORES[0], SCORES[1] | ODD]}, "answered 1 scores where 2"),
    ("rerank", "tei", [{"index": 0, "score": 1}, {"index": 1, "score": LONG}], "is no number"),
    ("rerank", "cohere", {"results": SCORES, "meta": {"billed_units": {"search_units": LONG}}}, ""),
    ("chat completions", "", {"choices": [CHOICE], "usage": dict.fromkeys(USAGE, LONG)}, ""),
]


@pytest.mark.parametrize(("name", "hint", "answer", "said"), FOUND)
def test_what_the_fuzzer_found_is_used_or_refused(
    name: str, hint: str, answer: Any, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(name, tmp_path, monkeypatch)
    refused = pytest.raises(InputError, match=said) if said else nullcontext()
    with answering(hint, compact(answer)) as address, refused:
        SERVICES[name][0](address, hint)


@pytest.mark.parametrize(
    ("name", "hint"), [("rerank", "tei"), ("rerank", "tei not 400"), ("chat", "chat")]
)
def test_an_answer_of_endless_lists_is_refused_in_a_line(
    name: str, hint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settled(name, tmp_path, monkeypatch)
    answer = (b"data: " if name == "chat" else b"") + b"[" * 100_000 + b"\n\n"
    with answering(hint, answer) as address, pytest.raises(InputError) as refused:
        SERVICES[name][0](address, hint)
    assert "\n" not in str(refused.value)
