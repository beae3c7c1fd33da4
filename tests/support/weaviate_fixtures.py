"""A real Weaviate for the tests that are marked with it."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "weaviate.sh"
_NAMES = ("WEAVIATE_URL", "WEAVIATE_GRPC_URL", "WEAVIATE_API_KEY")
_OURS = "TERCET_TESTS_"


def pytest_configure() -> None:
    """Keep the server's address from the tests that need none, by other names."""
    for name in _NAMES:
        if name in os.environ:
            os.environ[_OURS + name] = os.environ.pop(name)


@dataclass(frozen=True)
class Server:
    """Where a Weaviate is; given to WeaviateIndex.connect as keywords."""

    url: str
    grpc_url: str | None
    api_key: str | None = field(repr=False)

    @property
    def keywords(self) -> dict[str, str | None]:
        return {"url": self.url, "grpc_url": self.grpc_url, "api_key": self.api_key}

    @property
    def environment(self) -> dict[str, str]:
        """What a program finds it by."""
        return {f"WEAVIATE_{name.upper()}": value or "" for name, value in self.keywords.items()}


#: A collection that a test may write, and finds gone.
SCRATCH = "Tercet_tests_scratch"


@pytest.fixture
def server(weaviate_server: Server) -> Iterator[Any]:
    """A connection to the real server, where `SCRATCH` is not there, before and after."""
    from tercet.retrieval.weaviate.client import WeaviateServer

    server = WeaviateServer.connect(**weaviate_server.keywords)
    server.client.collections.delete(SCRATCH)
    yield server
    server.client.collections.delete(SCRATCH)
    server.close()


@pytest.fixture(scope="session")
def weaviate_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of WEAVIATE_URL if it answers, else one of our own, on free ports.

    Skips where there is none to start, unless TERCET_REQUIRE_ALL is set: then one is built.
    """
    url, grpc_url, api_key = (os.environ.get(_OURS + name) for name in _NAMES)
    if url and _answers(url):
        yield Server(url, grpc_url, api_key)
        return
    with own_weaviate(tmp_path_factory.mktemp("weaviate")) as own:
        yield own.server


class Own:
    """A server of our own, which may be killed and started again; its data stay."""

    def __init__(self, home: Path, settings: Mapping[str, str]) -> None:
        http_port, grpc_port = _free_ports()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("WEAVIATE_")}
        self.home = home
        self.environment = kept | {
            "WEAVIATE_HOME": str(home),
            "WEAVIATE_HTTP_PORT": str(http_port),
            "WEAVIATE_GRPC_PORT": str(grpc_port),
            "WEAVIATE_BUILD": "yes" if os.environ.get("TERCET_REQUIRE_ALL") else "no",
            **settings,
        }

    def start(self) -> None:
        """Start it, and wait until it answers. Skips where there is none to start."""
        started = _script("start", self.environment)
        if started.returncode == 3 and not os.environ.get("TERCET_REQUIRE_ALL"):
            pytest.skip(started.stderr.strip())
        assert started.returncode == 0, started.stderr

    def kill(self) -> None:
        """End it by SIGKILL. Skips where it runs in Docker, whose settings are not ours."""
        pid = (self.home / "pid").read_text().strip()
        if not pid.isdecimal():
            pytest.skip("the server runs in Docker")
        os.kill(int(pid), signal.SIGKILL)
        with suppress(FileNotFoundError):  # until it is gone, or nothing but a row of the table
            while " Z " not in Path(f"/proc/{pid}/stat").read_text():
                time.sleep(0.01)

    def stop(self) -> None:
        """Stop it, if it runs."""
        _script("stop", self.environment)

    @property
    def server(self) -> Server:
        """Where it is."""
        shown = _script("env", self.environment).stdout
        found = dict(re.findall(r"WEAVIATE_(\w+)=(\S+)", shown))
        return Server(found["URL"], found["GRPC_URL"], found["API_KEY"])


@contextmanager
def own_weaviate(home: Path, **settings: str) -> Iterator[Own]:
    """A server with settings of its own, as ASYNC_INDEXING; stopped at the end."""
    own = Own(home, settings)
    try:
        own.start()
        yield own
    finally:
        own.stop()


def _script(verb: str, environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(SCRIPT), verb], env=dict(environment), text=True, capture_output=True, timeout=900
    )


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    try:
        socket.create_connection((parts.hostname, parts.port or 80), 3).close()
    except OSError:
        return False
    return True


def _free_ports() -> tuple[int, int]:
    """One port for REST, and the first of five in a row for gRPC and the one-node cluster."""
    for _ in range(100):
        first = random.randrange(20_000, 32_000)
        with ExitStack() as held:
            try:
                for port in range(first, first + 6):
                    probe = held.enter_context(closing(socket.socket()))
                    probe.bind(("0.0.0.0", port))
            except OSError:
                continue
            return first, first + 1
    raise RuntimeError("no six free ports in a row")
