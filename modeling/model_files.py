"""The files of a model's folder that are read: one list, which is hashed and given to loaders.

What a file of the list names is on it too: modules, shards of weights, other configurations. A name
that leads out of the folder, or to nothing, is refused. transformers and PEFT look for files by
names of their own; they are given a folder of links to those of the list, and find no other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from tercet.core.schema import InputError
from tercet.modeling.checks import refuse_pointer
from tercet.modeling.encoders.st_keys import read_json
from tercet.modeling.onnx_files import external_data

SAFETENSORS = ("*.safetensors", "*.safetensors.index.json")
# The older format, of most doc2query models. It is a pickle, which could run code: transformers
# reads only tensors from it (`weights_only`) and refuses the rest.
OLD_FORMAT = ("pytorch_model*.bin", "pytorch_model.bin.index.json")
#: What a folder holds of a network and its tokenizer besides weights.
NETWORK = (
    *("config.json", "generation_config.json", "adapter_config.json", "sentence_*_config.json"),
    *("tokenizer*.json", "special_tokens_map.json", "added_tokens.json", "chat_template.*"),
    *("vocab.*", "merges.txt", "bpe.codes", "*.model", "*.safetensors.index.json"),
    # Of few tokenizers.
    *("dict.txt", "source.spm", "target.spm", "vocab-src.json", "vocab-tgt.json"),
    *("target_vocab.json", "entity_vocab.json", "byte_maps.json", "normalizer.json"),
    *("emoji.json", "word_shape.json", "word_pronunciation.json", "prophetnet.tokenizer"),
    *("tekken.json", "tokenizer.model.*", "additional_chat_templates/*.jinja"),
)
#: What a folder holds of the model as a whole, and what a module's own does.
WHOLE = ("modules.json", "config_sentence_transformers.json", "tercet.json", "adapter.json")
MODULE = ("config.json", "model.safetensors", "pytorch_model.bin")


class MissingFile(InputError):
    """A file of a model names another that is not there: `path`."""

    def __init__(self, said_by: Path, path: Path, name: str) -> None:
        super().__init__(f"{said_by} names {name!r}, which is missing: the folder is not whole")
        self.path = path


def model_files(folder: Path, weights: Sequence[str]) -> list[Path]:
    """The files that are read of the model in `folder`, sorted; `weights` are patterns of its own.

    Raises InputError for a name in one of them that leads out of the folder, or to nothing.
    """
    first, *modules = module_folders(folder) or [folder]
    found = {*matching(folder, WHOLE)}
    for place in {folder, first}:
        found |= {*network_files(place, weights)}
    for place in modules:
        found |= {*matching(place, MODULE)}
    for file in [file for file in found if file.suffix == ".onnx"]:
        refuse_pointer(str(folder), file)
        found |= {_named(file.parent, name, file) for name in external_data(file)}
    return sorted(found)


def network_files(folder: Path, weights: Sequence[str] | None = None) -> list[Path]:
    """The files in `folder` of a network and its tokenizer; raises InputError as `model_files`.

    `weights` are patterns, by default of safetensors, or where there are none of the older format.
    """
    if weights is None:
        weights = SAFETENSORS if matching(folder, SAFETENSORS) else OLD_FORMAT
    found = matching(folder, (*NETWORK, *weights))
    config = folder / "config.json"
    said = read_json(config, {})
    named = [(config, name) for name in said.get("configuration_files") or ()]
    if said.get("transformers_weights"):
        named.append((config, said["transformers_weights"]))
    for index in [file for file in found if file.name.endswith(".index.json")]:
        named += [(index, name) for name in _shards(index)]
    return [*found, *(_named(folder, name, file) for file, name in named)]


def module_folders(folder: Path) -> list[Path]:
    """The folders of the modules in modules.json, in order; none where there is no such file."""
    file = folder / "modules.json"
    entries = [entry for entry in read_json(file, []) if isinstance(entry, dict)]
    return [within(folder, str(entry.get("path", "")), file) for entry in entries]


def within(folder: Path, name: str, said_by: Path) -> Path:
    """The path of a file or folder that a model's file names.

    Raises InputError for one that leads out of `folder`.
    """
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts:
        raise InputError(
            f"{said_by} names {name!r}, which leads out of the model's folder: never read"
        )
    return folder / path


def matching(folder: Path, patterns: Iterable[str]) -> list[Path]:
    """The files whose path in `folder` fits a pattern, links followed; a * stops at a slash."""
    found = set()
    for pattern in patterns:
        within(folder, pattern, folder)
        *folders, name = pattern.split("/")
        place = folder.joinpath(*folders)
        if place.is_dir():
            found |= {file for file in place.iterdir() if fnmatch(file.name, name)}
    return sorted(file for file in found if file.is_file())


@contextmanager
def alone(folder: Path, files: Iterable[Path]) -> Iterator[Path]:
    """A folder that holds links to these files of `folder`, and nothing else, for the block."""
    with TemporaryDirectory(prefix="tercet-model-") as made:
        for file in files:
            link = Path(made) / file.relative_to(folder)
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to(file.absolute())
        yield Path(made)


def _shards(index: Path) -> list[str]:
    said: Any = read_json(index, {}).get("weight_map")
    if not isinstance(said, dict) or not all(isinstance(name, str) for name in said.values()):
        raise InputError(f"{index} has no weight_map of tensors to files: fetch the model again")
    return sorted(set(said.values()))


def _named(folder: Path, name: Any, said_by: Path) -> Path:
    path = within(folder, str(name), said_by)
    if not path.is_file():
        raise MissingFile(said_by, path, str(name))
    return path
