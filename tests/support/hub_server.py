"""A stand-in for the Hugging Face Hub: as much of its HTTP API as pushing and loading ask for.

Like the Hub, it refuses strangers and contents that are not what their hash says, tells which
files it has already, and keeps every commit.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import yaml

LARGE = (".safetensors", ".bin", ".pt", ".pth", ".parquet", ".npy")
#: What the names of repositories of other kinds than models begin with.
PREFIXES = {"dataset": "datasets/", "space": "spaces/"}


@dataclass(frozen=True)
class Commit:
    """The whole repository as one commit left it: path -> contents."""

    message: str
    files: dict[str, bytes]

    def write(self, folder: Path) -> Path:
        """Lay the files out in `folder`."""
        for name, contents in self.files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(contents)
        return folder


@dataclass
class Hub:
    """What the server holds: one branch of each repository, by its name with its prefix."""

    token: str
    delay: float
    address: str = ""
    #: A reason for which it refuses every request, with 403.
    refusal: str = ""
    #: Whether the connection ends in the middle of each file.
    cuts: bool = False
    commits: dict[str, list[Commit]] = field(default_factory=dict)
    private: dict[str, bool] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)


class Handler(BaseHTTPRequestHandler):
    """One request; each route is a method that returns a status and a JSON body."""

    protocol_version = "HTTP/1.1"
    hub: ClassVar[Hub]

    def _answer(self) -> None:
        body = self._body()
        stranger = self.headers.get("Authorization") != f"Bearer {self.hub.token}"
        status, content = 404, {"error": "no such page"}
        for method, pattern, route in ROUTES:
            match = re.fullmatch(pattern, self.path)
            if match and method == self.command.replace("HEAD", "GET"):
                # Large files go to a storage of another name, whose addresses are secrets.
                refused = stranger and method != "PUT"
                status, content = (401, {}) if refused else route(self, body, *match.groups())
        if self.hub.refusal:
            status, content = 403, {"error": self.hub.refusal}
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if isinstance(content, bytes):
            self.send_header("ETag", f'"{_sha256(data)}"')
            self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
        self.end_headers()
        if self.hub.cuts and isinstance(content, bytes):
            data, self.close_connection = data[: len(data) // 2], True
        if self.command != "HEAD":
            self.wfile.write(data)

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def create(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """A new repository; 409 if there is one, 400 for a Space without its kind of page."""
        request = json.loads(body)
        if request.get("type") == "space" and request.get("sdk") != "gradio":
            return 400, {"error": "this Hub's Spaces are Gradio's"}
        repo = f"{request['organization'] or 'me'}/{request['name']}"
        repo = PREFIXES.get(request.get("type"), "") + repo
        status = 409 if repo in self.hub.commits else 200
        self.hub.commits.setdefault(repo, [])
        self.hub.private.setdefault(repo, request.get("visibility") == "private")
        return status, {"url": f"{self.hub.address}/{repo}"}

    def info(self, _: bytes, repo: str) -> tuple[int, dict[str, Any]]:
        """The newest commit."""
        return 200, {"id": repo, "sha": f"{len(self.hub.commits[repo]):040}", "siblings": []}

    def resolve(self, _: bytes, repo: str, revision: str, name: str) -> tuple[int, Any]:
        """A file of a commit."""
        files = self._at(repo, revision)
        return (200, files[name]) if name in files else (404, {"error": "no such file"})

    def _at(self, repo: str, revision: str) -> dict[str, bytes]:
        commits = self.hub.commits[repo]
        commits = commits if revision == "main" else commits[: int(revision)]
        return commits[-1].files if commits else {}

    def tree(self, _: bytes, repo: str, revision: str) -> tuple[int, Any]:
        """All files of a commit."""
        files = self._at(repo, revision)
        return 200, [
            {"type": "file", "path": name, "size": len(data), "oid": _git_sha1(data)}
            for name, data in files.items()
        ]

    def validate(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """400 for a card whose front matter is no YAML."""
        _, front, _ = json.loads(body)["content"].split("---\n", 2)
        try:
            content, error = yaml.safe_load(front), ""
        except yaml.YAMLError as fault:
            content, error = None, str(fault)
        valid = isinstance(content, dict)
        return 200 if valid else 400, {"errors": [] if valid else [{"message": error}]}

    def preupload(self, body: bytes, repo: str) -> tuple[int, dict[str, Any]]:
        """Which files are large, and the hashes of those that are here already."""
        time.sleep(self.hub.delay)
        commits = self.hub.commits[repo]
        files = []
        for name in (file["path"] for file in json.loads(body)["files"]):
            large = name.endswith(LARGE)
            old = commits[-1].files.get(name) if commits else None
            oid = None if old is None else _sha256(old) if large else _git_sha1(old)
            mode = "lfs" if large else "regular"
            files.append({"path": name, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        return 200, {"files": files}

    def batch(self, body: bytes, _: str) -> tuple[int, dict[str, Any]]:
        """Where to put the large files that are not here."""
        objects = json.loads(body)["objects"]
        for item in objects:
            if item["oid"] not in self.hub.objects:
                item["actions"] = {"upload": {"href": f"{self.hub.address}/lfs/{item['oid']}"}}
        return 200, {"objects": objects, "transfer": "basic"}

    def put(self, body: bytes, oid: str) -> tuple[int, dict[str, Any]]:
        """A large file; 400 if it is not what was announced."""
        if _sha256(body) != oid:
            return 400, {"error": "the contents are not what their hash says"}
        self.hub.objects[oid] = body
        return 200, {}

    def commit(self, body: bytes, repo: str) -> tuple[int, dict[str, Any]]:
        """A header and files, one JSON a line; 400 if a large file was never put."""
        header, *operations = (json.loads(line) for line in body.splitlines())
        commits = self.hub.commits[repo]
        files = dict(commits[-1].files) if commits else {}
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile" and value["oid"] in self.hub.objects:
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
            else:
                return 400, {"error": f"{operation['key']} {value['path']} cannot be committed"}
        commits.append(Commit(header["value"]["summary"], files))
        oid = f"{len(commits):040}"
        return 200, {"commitOid": oid, "commitUrl": f"{self.hub.address}/{repo}/commit/{oid}"}

    def log_message(self, *_: Any) -> None:
        """Nothing: the test's output is its own."""


REPO = r"((?:datasets/|spaces/)?[\w.-]+/[\w.-]+)"
API = f"/api/(?:models/)?{REPO}"
COMMIT = r"(main|\d{40})"
ROUTES: list[tuple[str, str, Any]] = [
    ("POST", "/api/repos/create", Handler.create),
    ("POST", "/api/validate-yaml", Handler.validate),
    ("GET", f"{API}/revision/main", Handler.info),
    ("GET", rf"{API}/tree/{COMMIT}\?.*", Handler.tree),
    ("GET", rf"/{REPO}/resolve/{COMMIT}/(.+)", Handler.resolve),
    ("POST", f"{API}/preupload/main", Handler.preupload),
    ("POST", f"/{REPO}.git/info/lfs/objects/batch", Handler.batch),
    ("PUT", "/lfs/([0-9a-f]{64})", Handler.put),
    ("POST", f"{API}/commit/main", Handler.commit),
]


@contextmanager
def serve(token: str, *, delay: float = 0) -> Iterator[Hub]:
    """A Hub on a free port of this machine, `delay` seconds slow to take an upload."""
    hub = Hub(token, delay)
    handler = type("HubHandler", (Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_sha1(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
