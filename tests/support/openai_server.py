"""A stand-in for an OpenAI-compatible API: `/v1/chat/completions`, streamed, and what it was sent.

It refuses strangers and, as real ones may, repeats their key. Before each piece but the first it
waits until it may go on, so that a test can tell that pieces are not gathered first.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

MODEL = "tiny-chat"


@dataclass
class Api:
    """What the server knows, and what befalls it.

    `deltas` are what it says: texts, or whole deltas. `status` other than 200 refuses; `cut` hangs
    up after the first piece.
    """

    key: str = field(repr=False)
    deltas: Sequence[str | dict[str, Any]] = ("It is ", "kept ", "dry.")
    status: int = 200
    cut: bool = False
    address: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)


class Handler(BaseHTTPRequestHandler):
    """Answers one request, and hangs up."""

    api: ClassVar[Api]

    def do_POST(self) -> None:  # noqa: N802
        api, sent = self.api, {name.lower(): value for name, value in self.headers.items()}
        body = json.loads(self.rfile.read(int(sent["content-length"])))
        api.bodies.append(body)
        api.headers.append(sent)
        api.paths.append(self.path)
        key = sent.get("authorization", "")
        status = api.status if key == f"Bearer {api.key}" else 401
        status = status if body["model"] == MODEL else 404
        if status != 200:
            self._begin(status, "application/json")
            self.wfile.write(json.dumps({"error": {"message": f"sent {key}\x1b[2J"}}).encode())
            return
        self._begin(200, "text/event-stream")
        for number, said in enumerate(api.deltas):
            if number and (api.cut or not api.go_on.wait(20)):
                return
            self._say({"content": said} if isinstance(said, str) else said)
        self._say({}, "stop")
        self.wfile.write(b"data: [DONE]\n\n")

    do_GET = do_POST  # noqa: N815

    def _begin(self, status: int, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()

    def _say(self, delta: dict[str, Any], reason: str | None = None) -> None:
        choice = {"index": 0, "delta": delta, "finish_reason": reason}
        about = {"id": "0", "object": "chat.completion.chunk", "created": 0, "model": MODEL}
        self.wfile.write(f"data: {json.dumps(about | {'choices': [choice]})}\n\n".encode())

    def log_message(self, *_: Any) -> None:
        """Nothing: the test's output is its own."""


@contextmanager
def serve(key: str) -> Iterator[Api]:
    """An API on a free port of this machine."""
    api = Api(key)
    handler = type("ApiHandler", (Handler,), {"api": api})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    api.address = f"http://127.0.0.1:{server.server_port}/v1"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield api
    finally:
        api.go_on.set()
        server.shutdown()
        server.server_close()
