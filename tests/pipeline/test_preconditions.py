"""What could be known in the first second is told in it: nothing is made before."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from programs import run_program
from recipes import tiny_recipe

from tercet.config.loading import load_recipe
from tercet.core.schema import InputError
from tercet.pipeline.pipeline import Pipeline


@pytest.fixture
def recipe(
    tiny_beir_path: Path, tiny_encoder_path: Path, tiny_cross_encoder_path: Path, tmp_path: Path
) -> Path:
    return tiny_recipe(
        tmp_path, corpus=tiny_beir_path, model=tiny_encoder_path, teacher=tiny_cross_encoder_path
    )


@pytest.mark.fault("a library's own errors")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["index.backend=faiss", "index.factory=HNSWx"], "index.factory 'HNSWx': faiss could not"),
        (["index.backend=faiss", "index.factory=PQ7"], "index: faiss cannot build 'PQ7' for 32"),
        (
            ["index.backend=faiss", "index.factory=Flat", "index.on_disk=true"],
            "index: faiss Flat has no on_disk",
        ),
        (
            ["index.backend=faiss", "index.factory=IVF4,SQ8,Refine(Flat)", "index.on_disk=true"],
            "index.on_disk: 'IVF4,SQ8,Refine(Flat)' keeps its vectors in memory",
        ),
        (
            ["negatives.index.backend=faiss", "negatives.index.factory=Trees"],
            "negatives.index.factory 'Trees': faiss could not parse",
        ),
    ],
)
def test_an_index_that_cannot_be_built_is_refused_first(
    recipe: Path, options: list[str], message: str
) -> None:
    pytest.importorskip("faiss")
    with pytest.raises(InputError) as caught:
        Pipeline(load_recipe(recipe, [f"--{option}" for option in options])).check()
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    assert not (recipe.parent / "runs").exists()


def test_an_index_of_more_lists_than_a_sample_could_train_passes(recipe: Path) -> None:
    pytest.importorskip("faiss")
    given = ["--index.backend=faiss", "--index.factory=IVF4096,PQ8"]
    Pipeline(load_recipe(recipe, given)).check()


class _Forbidding(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        self.send_response(403)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_HEAD = do_POST = do_PUT = _answer  # noqa: N815

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def forbidding() -> Iterator[str]:
    """The address of a Hub that lets nobody in."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.mark.fault("a library's own errors")
@pytest.mark.parametrize("there", [True, False])
def test_an_account_that_may_not_write_is_told_before_any_work(
    recipe: Path, forbidding: str, there: bool
) -> None:
    address = forbidding if there else "http://127.0.0.1:9"
    environment = {"HF_ENDPOINT": address, "HF_TOKEN": "hf_x", "HF_HUB_OFFLINE": "0"}
    given = ["--training.push_to_hub", "true", "--training.hub_model_id", "someone/x"]
    done = run_program("train.py", recipe, *given, **environment)
    assert done.returncode == 2, done.stderr
    assert "the Hub did not take 'someone/x'" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert not list((recipe.parent / "runs").rglob("manifest.json"))
