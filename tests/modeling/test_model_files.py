"""What is hashed of a model is what is read of it, by whichever library."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
from hub_server import Commit, serve
from huggingface_hub import constants, snapshot_download
from model_folders import KINDS, STRAYS, Kind, add_strays, opened_within
from transformers import AutoModelForSequenceClassification

from tercet.core.files import read_json, write_json
from tercet.core.schema import InputError
from tercet.modeling import BiEncoder, cross_encoder
from tercet.modeling.hub import files_of, load_model, load_tokenizer, resolve
from tercet.modeling.model_files import model_files, module_folders, network_files
from tercet.modeling.onnx_files import external_data

pytestmark = pytest.mark.fault("what is hashed is what is read")

_events: list[str] = []
_watching = [False]


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open" and _watching[0] and isinstance(arguments[0], str | os.PathLike):
        _events.append(os.path.realpath(arguments[0]))  # of a link to a model's file, that file


@pytest.fixture(scope="module", autouse=True)
def watching() -> Iterator[None]:
    """An audit hook stays for as long as the process does: it is told when to listen."""
    sys.addaudithook(_watch)
    _watching[0] = True
    yield
    _watching[0] = False


@pytest.fixture
def models(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_seq2seq_path: Path,
    tiny_causal_path: Path,
) -> dict[str, Path]:
    monkeypatch.setenv("TERCET_CACHE", str(tmp_path / "cache"))
    return {
        "encoder": tiny_encoder_path,
        "teacher": tiny_cross_encoder_path,
        "seq2seq": tiny_seq2seq_path,
        "causal": tiny_causal_path,
    }


def identity(folder: Path, kind: Kind) -> str:
    return resolve(str(folder), None, kind.weights).identity


@pytest.mark.parametrize("name", KINDS)
def test_what_is_read_is_what_is_hashed(
    name: str, tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    folder = kind.make(tmp_path / "model", models)
    add_strays(folder)
    listed = model_files(folder, kind.weights)
    real = {file.resolve().relative_to(folder).as_posix() for file in listed}
    with opened_within(folder, _events) as opened:
        computed = kind.computed(folder)
    assert opened and opened <= real, opened - real

    # Libraries that open files by themselves: with what is listed alone, all is as it was.
    alone = tmp_path / "alone"
    for file in listed:
        (alone / file.relative_to(folder)).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, alone / file.relative_to(folder))
    assert kind.computed(alone) == computed
    assert identity(alone, kind) == identity(folder, kind)

    # Any other file changes nothing; any that is listed changes the identity.
    before = identity(folder, kind)
    others = {f for f in folder.rglob("*") if f.is_file()} - {folder / path for path in real}
    assert len(others) > len(STRAYS) // 2
    for file in others:
        file.write_bytes(file.read_bytes() + b" \1")
    assert identity(folder, kind) == before
    assert kind.computed(folder) == computed
    for file in listed:
        content = file.read_bytes()
        file.write_bytes(content + b" ")
        try:
            assert identity(folder, kind) != before, file
        except InputError:
            pass  # a file that cannot be read any more is refused
        file.write_bytes(content)
    assert identity(folder, kind) == before


def test_loaders_are_given_the_list_and_nothing_else(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    folder = KINDS["a cross-encoder"].make(tmp_path / "model", models)
    add_strays(folder)
    given: list[set[str]] = []

    class Probe:
        @staticmethod
        def from_pretrained(place: Path, **options: Any) -> Any:
            given.append({f.relative_to(place).as_posix() for f in Path(place).rglob("*")})
            return AutoModelForSequenceClassification.from_pretrained(place, **options)

    network = load_model(Probe, str(folder), folder)
    assert given == [{f.relative_to(folder).as_posix() for f in network_files(folder)}]
    assert not given[0] & set(STRAYS)
    # What is loaded bears the folder's own name.
    assert network.config._name_or_path == network.name_or_path == str(folder)
    tokenizer = load_tokenizer(str(folder), folder)
    assert tokenizer.name_or_path == str(folder)
    assert "tercet-model-" not in repr(vars(tokenizer)) + repr(network.config)


HUBS = [
    *("pooling in a folder of another name", "a network in a folder of another name"),
    *("shards in a folder of their own", "names given by config.json", "ONNX with external data"),
]


@pytest.mark.parametrize("name", HUBS)
def test_of_a_model_on_the_hub_everything_that_is_named_is_fetched(
    name: str, tmp_path: Path, models: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = KINDS[name]
    folder = kind.make(tmp_path / "model", models)
    add_strays(folder)
    onnx_alone = "ONNX" in name  # which of a name on the Hub a recipe has to say
    monkeypatch.setattr(cross_encoder, "is_onnx", lambda name, backend: onnx_alone)
    with serve("token") as hub:
        pushed = {name: file.read_bytes() for name, file in files_of(folder).items()}
        hub.commits["me/tiny"] = [Commit("all", pushed)]
        there = {"endpoint": hub.address, "token": "token", "cache_dir": tmp_path / "hub"}
        monkeypatch.setattr(
            "tercet.modeling.hub.snapshot_download", partial(snapshot_download, **there)
        )
        for name, value in {"HF_HUB_OFFLINE": False, "HF_HUB_DISABLE_XET": True}.items():
            monkeypatch.setattr(constants, name, value)
        found = resolve("me/tiny", None, kind.weights)
        assert found.identity == f"commit:{1:040}"
        fetched = {file.relative_to(found.path) for file in model_files(found.path, kind.weights)}
        assert fetched == {file.relative_to(folder) for file in model_files(folder, kind.weights)}
        assert kind.computed(Path("me/tiny")) == kind.computed(folder)


def module_at(path: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        modules = read_json(folder / "modules.json")
        modules[1]["path"] = path
        write_json(folder / "modules.json", modules)

    return edit


def shard_at(path: str) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        index = {"weight_map": {"embeddings.word_embeddings.weight": path}}
        write_json(folder / "model.safetensors.index.json", index)

    return edit


def config_says(**keys: Any) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        write_json(folder / "config.json", read_json(folder / "config.json") | keys)

    return edit


def without(path: str) -> Callable[[Path], None]:
    return lambda folder: shutil.rmtree(folder / path)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (module_at("../../../etc"), "modules.json names '../../../etc', which leads out"),
        (module_at("/etc"), "modules.json names '/etc', which leads out"),
        (module_at("a/../../b"), "modules.json names 'a/../../b', which leads out"),
        (without("1_Pooling"), "1_Pooling/config.json is missing"),
        (shard_at("../other.safetensors"), "index.json names '../other.safetensors', which leads"),
        (shard_at("part.safetensors"), "names 'part.safetensors', which is missing"),
        (
            lambda folder: write_json(folder / "model.safetensors.index.json", {}),
            "index.json has no weight_map",
        ),
        (config_says(transformers_weights="../a.safetensors"), "config.json names '../a.safetens"),
        (config_says(configuration_files=["config.4.0.0.json"]), "which is missing"),
    ],
)
def test_a_name_that_leads_out_or_nowhere_is_refused(
    edit: Callable[[Path], None], words: str, tmp_path: Path, tiny_encoder_path: Path
) -> None:
    folder = Path(shutil.copytree(tiny_encoder_path, tmp_path / "model"))
    edit(folder)
    with pytest.raises(InputError) as refused:
        BiEncoder.from_pretrained(folder)
    assert words in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("../all.bin", "model.onnx names '../all.bin', which leads out"),
        ("/etc/hostname", "model.onnx names '/etc/hostname', which leads out"),
        ("gone.bin", "model.onnx names 'gone.bin', which is missing"),
    ],
)
def test_weights_of_onnx_elsewhere_are_refused(location: str, words: str, tmp_path: Path) -> None:
    inner = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], b"\0\0\0\0", raw=True)
    node = onnx.helper.make_node("Constant", [], ["out"], value=inner)
    # Weights of a graph within a node, as of a loop's body.
    body = onnx.helper.make_graph([node], "body", [], [])
    outer = onnx.helper.make_node("If", ["c"], ["out"], then_branch=body, else_branch=body)
    model = onnx.helper.make_model(onnx.helper.make_graph([outer], "all", [], []))
    for branch in model.graph.node[0].attribute:
        tensor = branch.g.node[0].attribute[0].t
        tensor.data_location = onnx.TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value=location)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    assert external_data(tmp_path / "model.onnx") == [location]
    with pytest.raises(InputError, match=words):
        resolve(str(tmp_path), None, ("model.onnx",))


def test_an_onnx_file_that_is_cut_is_refused(tmp_path: Path, models: dict[str, Path]) -> None:
    folder = KINDS["ONNX with external data"].make(tmp_path / "model", models)
    file = folder / "model.onnx"
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(InputError, match=r"model\.onnx is not a whole ONNX file"):
        resolve(str(folder), None, ("model.onnx",))


def test_a_base_beneath_a_module_is_part_of_the_identity(
    tmp_path: Path, models: dict[str, Path]
) -> None:
    folder = KINDS["a network in a folder of another name"].make(tmp_path / "model", models)
    base = Path(shutil.copytree(models["encoder"], tmp_path / "base"))
    write_json(
        module_folders(folder)[0] / "adapter_config.json", {"base_model_name_or_path": str(base)}
    )
    before = resolve(str(folder)).identity
    (base / "config.json").write_bytes((base / "config.json").read_bytes() + b" ")
    assert resolve(str(folder)).identity != before
