"""A stand-in for Cohere's API: `/v2/embed`, with a bill, and troubles to order.

Like Cohere, it refuses strangers, unknown models and more than 96 texts, echoes the texts and tells
what it bills. It remembers every call, and which texts it has answered.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

import numpy as np

WIDTHS = {
    "embed-v4.0": 1536,
    "embed-multilingual-v3.0": 1024,
    "embed-english-light-v3.0": 384,
    "tiny": 8,
}
INPUT_TYPES = ("search_document", "search_query")


@dataclass(frozen=True)
class Trouble:
    """What goes wrong with one call. Its default is nothing.

    `alter` changes the answer; `cut` sends half of it and hangs up; `unframed` leaves out its
    length, so that only the JSON tells of the cut; `delay` seconds pass before it.
    """

    status: int = 200
    message: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    alter: Callable[[dict[str, Any]], None] | None = None
    cut: bool = False
    unframed: bool = False
    delay: float = 0.0


@dataclass(frozen=True)
class Call:
    """One request, as it came; the times are those of a clock that only goes forward."""

    time: float
    body: dict[str, Any]

    @property
    def texts(self) -> list[str]:
        """Its texts."""
        return self.body["texts"]


@dataclass
class Api:
    """What the server knows. Troubles befall the next calls, one each, the first one first."""

    key: str = field(repr=False)
    tokens: Callable[[str], int]
    address: str = ""
    troubles: list[Trouble] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    #: How often each text was answered in full, by model, input type and text.
    answered: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    #: As `answered`, of what was sent again after that.
    again: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    billed: int = 0  # tokens
    lock: threading.Lock = field(default_factory=threading.Lock)

    def texts(self) -> list[str]:
        """The texts of all calls, one after another."""
        return [text for call in self.calls for text in call.texts]


def vector(model: str, input_type: str, text: str, width: int) -> list[float]:
    """What the model makes of a text: as good as random, and always the same."""
    noise = hashlib.shake_256(json.dumps([model, input_type, text]).encode()).digest(2 * width)
    row = np.frombuffer(noise, "<u2") - 32767.5
    return (row / np.linalg.norm(row)).round(9).tolist()


class Handler(BaseHTTPRequestHandler):
    """One request at a time, or several."""

    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body leave together, and wait for no acknowledgement
    api: ClassVar[Api]

    def do_POST(self) -> None:  # noqa: N802
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.api.lock:
            self.api.calls.append(Call(time.monotonic(), body))
            trouble = self.api.troubles.pop(0) if self.api.troubles else Trouble()
            for known in self._names(body):
                self.api.again[known] += known in self.api.answered
        time.sleep(trouble.delay)
        status, content = self._content(body, trouble)
        if trouble.alter and status == 200:
            trouble.alter(content)
        data = json.dumps(content).encode()
        if status == 200:
            with self.api.lock:  # before the answer leaves: it is billed whoever receives it
                self.api.billed += sum(map(self.api.tokens, body["texts"]))
                if not trouble.cut:
                    self.api.answered.update(self._names(body))
        self._send(status, data, trouble)

    def _names(self, body: dict[str, Any]) -> list[tuple[str, str, str]]:
        return [(body["model"], body["input_type"], text) for text in body["texts"]]

    def _content(self, body: dict[str, Any], trouble: Trouble) -> tuple[int, dict[str, Any]]:
        sent = self.headers.get("Authorization") or ""
        if trouble.status != 200:
            return trouble.status, {"message": trouble.message or f"sent {sent}"}
        if sent != f"Bearer {self.api.key}":
            return 401, {"message": f"invalid api token: {sent}"}  # a server that babbles
        model, texts = body["model"], body["texts"]
        if self.path != "/v2/embed" or model not in WIDTHS:
            return 404, {"message": f"model '{model}' not found"}
        wrong = body["input_type"] not in INPUT_TYPES or body["embedding_types"] != ["float"]
        if wrong or not 1 <= len(texts) <= 96 or not all(texts):
            return 400, {"message": "invalid request"}
        width = body.get("output_dimension") or WIDTHS[model]
        rows = [vector(model, body["input_type"], text, width) for text in texts]
        bill = {"input_tokens": sum(map(self.api.tokens, texts)), "image_tokens": 0}
        return 200, {
            "id": "0",
            "embeddings": {"float": rows},
            "texts": list(texts),
            "meta": {"api_version": {"version": "2"}, "billed_units": bill},
            "response_type": "embeddings_by_type",
        }

    def _send(self, status: int, data: bytes, trouble: Trouble) -> None:
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


class Server(ThreadingHTTPServer):
    """Says nothing of clients that were killed."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Nothing."""


@contextmanager
def serve(
    key: str,
    troubles: Iterable[Trouble] = (),
    *,
    tokens: Callable[[str], int] = lambda text: len(text.encode()),
) -> Iterator[Api]:
    """An API on a free port of this machine; unless told otherwise, a token is a byte."""
    api = Api(key, tokens, troubles=list(troubles))
    server = Server(("127.0.0.1", 0), type("ApiHandler", (Handler,), {"api": api}))
    api.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
