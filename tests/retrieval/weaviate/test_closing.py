"""Connections are closed, whether or not somebody does it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from weaviate_fixtures import Server

from tercet.retrieval.weaviate.client import WeaviateServer

pytestmark = pytest.mark.weaviate

CODE = """
import gc
from tercet import retrieval
from tercet.config.index import IndexSettings
from tercet.core.schema import InputError
from tercet.retrieval.weaviate.client import WeaviateServer

try:
    retrieval.open_live(IndexSettings(backend="weaviate", collection="Tercet_test_nowhere"))
except InputError:
    gc.collect()
forgotten = WeaviateServer.connect()
del forgotten
gc.collect()
held_to_the_end = WeaviateServer.connect()
"""


def test_the_client_changes_no_filter_of_warnings() -> None:
    code = "import warnings; import tercet.retrieval.weaviate.rollout; "
    code += "assert ('default', None, Warning, None, 0) not in warnings.filters"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_no_connection_is_left_open(server: WeaviateServer, weaviate_server: Server) -> None:
    # An exception in a finalizer is printed, and does not change the exit code.
    env = os.environ | weaviate_server.environment
    command = [sys.executable, "-W", "error::ResourceWarning", "-c", CODE]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and "ResourceWarning" not in done.stderr, done.stderr
    assert not done.stderr
