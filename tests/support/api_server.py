"""A server on loopback with the APIs of writers, embeddings and rerankers, and troubles to order.

It speaks `/chat/completions`, `/completions` and `/embeddings` as OpenAI does, and `/rerank` as
Cohere, TEI and vLLM do. It tells what it bills, and remembers every call and which it has answered.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, ClassVar

from cohere_server import Server, Trouble, vector

#: A field of a request -> the status and message with which it is refused.
Refusals = dict[str, tuple[int, str]]


@dataclass(frozen=True)
class Call:
    """One request, as it came."""

    time: float
    path: str
    body: dict[str, Any]

    @property
    def prompt(self) -> str:
        """What a writer was asked."""
        return str(self.body["messages"][-1]["content"])


@dataclass
class Service:
    """What the server knows. Troubles befall the next calls, one each, the first one first."""

    key: str = field(default="", repr=False)
    address: str = ""
    #: The text of a completion, made of its prompt; and of each of its choices.
    write: Callable[[str], str] = lambda prompt: answer_to(prompt)
    #: Vectors of texts; a stand-in for a model.
    embed: Callable[[list[str], int], list[list[float]]] = lambda texts, width: [
        vector("m", "", text, width) for text in texts
    ]
    relevance: Callable[[str, str], float] = lambda query, passage: likeness(query, passage)
    width: int = 8
    usage: bool = True
    most_texts: int = 10_000
    refusals: Refusals = field(default_factory=dict)
    delay: float = 0.0
    troubles: list[Trouble] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    #: How often each was answered in full: requests of writers, texts, and pairs.
    answered: Counter[str] = field(default_factory=Counter)
    #: As `answered`, of what was sent again after that.
    again: Counter[str] = field(default_factory=Counter)
    billed: Counter[str] = field(default_factory=Counter)
    at_once: int = 0
    most_at_once: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


def words_of(text: str) -> int:
    """Tokens, as this server counts them."""
    return len(text.split())


def passage_of(prompt: str) -> str:
    """The passage that a writer is asked about."""
    return prompt.rpartition("Passage: ")[2].partition("\n")[0]


def answer_to(prompt: str) -> str:
    """Queries of neighbouring words of a passage; a judge grades 0 what is "unanswerable"."""
    if '"grades"' in prompt:
        queries = prompt.rpartition("\n\n")[2].splitlines()
        return json.dumps({"grades": [0 if "unanswerable" in each else 2 for each in queries]})
    words, count = passage_of(prompt).split(), 3
    if "Write " in prompt:
        count = int(prompt.rpartition("Write ")[2].split()[0])
    return json.dumps({"queries": [" ".join(words[i : i + 3]) + f" {i}" for i in range(count)]})


def likeness(query: str, passage: str) -> float:
    """A relevance between 0 and 1: the part of the query's words that the passage has."""
    asked, has = {*query.lower().split()}, {*passage.lower().split()}
    return 0.01 + 0.98 * len(asked & has) / max(1, len(asked))


class Handler(BaseHTTPRequestHandler):
    """Several requests at a time."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1
    service: ClassVar[Service]

    def do_GET(self) -> None:  # noqa: N802
        """The models, for those with a key."""
        refused = self._refused()
        self._send(*(refused or (200, {"data": []})), Trouble())

    def do_POST(self) -> None:  # noqa: N802
        """Answer, or not."""
        service = self.service
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        names = self._names(body)
        with service.lock:
            service.calls.append(Call(time.monotonic(), self.path, body))
            trouble = service.troubles.pop(0) if service.troubles else Trouble()
            service.at_once += 1
            service.most_at_once = max(service.most_at_once, service.at_once)
            for name in names:
                service.again[name] += name in service.answered
        time.sleep(trouble.delay or service.delay)
        status, content = self._content(body, trouble)
        if trouble.alter and status == 200:
            trouble.alter(content)
        with service.lock:  # before the answer leaves: it is billed whoever receives it
            service.at_once -= 1
            if status == 200:
                self._bill(body, content)
                if not trouble.cut and not trouble.alter:
                    service.answered.update(names)
        self._send(status, content, trouble)

    def _refused(self) -> tuple[int, dict[str, Any]] | None:
        sent = self.headers.get("Authorization") or self.headers.get("api-key") or ""
        if self.service.key and sent != f"Bearer {self.service.key}":
            return 401, {"error": {"message": f"invalid key: {sent}"}}  # a server that babbles
        return None

    def _content(self, body: dict[str, Any], trouble: Trouble) -> tuple[int, Any]:
        if trouble.status != 200:
            sent = self.headers.get("Authorization") or ""
            return trouble.status, {"error": {"message": trouble.message or f"sent {sent}"}}
        if refused := self._refused():
            return refused
        for name, (status, message) in self.service.refusals.items():
            if name in body:
                return status, {"error": {"message": message}}
        answers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embeddings,
            "/rerank": self._rerank,
            "/v2/rerank": self._rerank,
        }
        if self.path.partition("?")[0] not in answers:
            return 404, {"error": {"message": f"no such path: {self.path}"}}
        return answers[self.path.partition("?")[0]](body)

    def _chat(self, body: dict[str, Any]) -> tuple[int, Any]:
        text = self.service.write(body["messages"][-1]["content"])
        message = {"role": "assistant", "content": text}
        return 200, self._with_usage(
            {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}]},
            prompt_tokens=words_of(body["messages"][-1]["content"]),
            completion_tokens=words_of(text),
        )

    def _completion(self, body: dict[str, Any]) -> tuple[int, Any]:
        words = passage_of(body["prompt"]).split()
        texts = [" " + " ".join(words[i : i + 3]) for i in range(body.get("n", 1))]
        choices = [{"index": i, "text": text} for i, text in enumerate(texts)]
        return 200, self._with_usage(
            {"choices": choices},
            prompt_tokens=words_of(body["prompt"]),
            completion_tokens=sum(map(words_of, texts)),
        )

    def _embeddings(self, body: dict[str, Any]) -> tuple[int, Any]:
        texts = body["input"]
        if len(texts) > self.service.most_texts:
            return 413, {"error": f"batch size {len(texts)} > {self.service.most_texts}"}
        rows = self.service.embed(texts, body.get("dimensions") or self.service.width)
        data = [{"object": "embedding", "index": i, "embedding": r} for i, r in enumerate(rows)]
        read = sum(map(words_of, texts))
        return 200, self._with_usage(
            {"data": data[::-1], "model": body["model"]}, prompt_tokens=read, total_tokens=read
        )

    def _rerank(self, body: dict[str, Any]) -> tuple[int, Any]:
        query, passages = body["query"], body.get("texts", body.get("documents"))
        if len(passages) > self.service.most_texts:
            return 413, {"error": f"batch size {len(passages)} > {self.service.most_texts}"}
        scores = [self.service.relevance(query, passage) for passage in passages]
        order = sorted(range(len(scores)), key=lambda i: -scores[i])
        if "texts" in body:
            return 200, [{"index": i, "score": scores[i]} for i in order]
        results = [{"index": i, "relevance_score": scores[i]} for i in order]
        units = {"billed_units": {"search_units": -(-len(passages) // 100)}}
        return 200, {"results": results, **({"meta": units} if "/v2" in self.path else {})}

    def _with_usage(self, answer: dict[str, Any], **usage: int) -> dict[str, Any]:
        return answer | ({"usage": usage} if self.service.usage else {})

    def _names(self, body: dict[str, Any]) -> list[str]:
        if "input" in body:
            return [json.dumps([body.get("dimensions"), text]) for text in body["input"]]
        if "query" in body:
            passages = body.get("texts", body.get("documents"))
            return [json.dumps([body["query"], passage]) for passage in passages]
        return [json.dumps([body["model"], body.get("messages") or body["prompt"]])]

    def _bill(self, body: dict[str, Any], content: Any) -> None:
        told = content.get("usage", {}) if isinstance(content, dict) else {}
        self.service.billed["read"] += told.get("prompt_tokens", 0)
        self.service.billed["written"] += told.get("completion_tokens", 0)
        self.service.billed["searches"] += -(-len(body.get("documents", ())) // 100)

    def _send(self, status: int, content: Any, trouble: Trouble) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        for name, value in trouble.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        if trouble.unframed:
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[: len(data) // 2] if trouble.cut else data)
        self.close_connection = trouble.cut or trouble.unframed

    def log_message(self, *_: Any) -> None:
        """Nothing: the test's output is its own."""


@contextmanager
def serve_apis(key: str = "", **settings: Any) -> Iterator[Service]:
    """The server on a free port of this machine."""
    service = Service(key, **settings)
    server = Server(("127.0.0.1", 0), type("ServiceHandler", (Handler,), {"service": service}))
    service.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
