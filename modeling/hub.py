"""Load models by local path or Hub name, safe files only and all weights; push to the Hub."""

from __future__ import annotations

import functools
import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    create_branch,
    create_commit,
    create_repo,
    get_token,
    list_repo_files,
    snapshot_download,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    IncompleteSnapshotError,
    OfflineModeIsEnabled,
    RevisionNotFoundError,
)
from transformers import AutoConfig, AutoTokenizer
from transformers.utils import logging

from tercet.core.artifacts import verify_folder
from tercet.core.borders import border, reason
from tercet.core.cache import cache_folder
from tercet.core.console import console
from tercet.core.files import file_sha256
from tercet.core.processes import is_main_process
from tercet.core.schema import InputError
from tercet.core.text import one_line
from tercet.modeling import adapters
from tercet.modeling.checks import check_finite, check_layers, refuse_pointer
from tercet.modeling.encoders.cohere_prices import refuse_retired
from tercet.modeling.model_files import (
    MODULE,
    NETWORK,
    OLD_FORMAT,
    SAFETENSORS,
    WHOLE,
    MissingFile,
    alone,
    matching,
    model_files,
    module_folders,
    network_files,
)

# Patterns of the Hub, whose * also matches a slash. Python files are never downloaded: they would
# run code.
_FIRST = (*WHOLE, *NETWORK, *(f"[0-9]*_*/{name}" for name in MODULE))
#: Ends of the names of files with an ONNX file's weights.
_BESIDE = ("_data", ".data")
_WITHOUT_HUB = (
    "check the name, the network and HF_TOKEN. Without the Hub: `tercet demo --fetch`, then "
    "--model.name sentence-transformers/all-MiniLM-L6-v2"
)
_LOG_IN = "log in with `hf auth login` or set HF_TOKEN, to an account that may write there"
#: The model card, which names the licence. It is not part of a model's identity.
CARD = "README.md"
#: Files of an earlier push that would be read together with the new ones.
_LEFTOVERS = {
    "model": (
        *("tercet.json", "space.safetensors", "adapter.json", "adapter.safetensors"),
        *("adapter_config.json", "adapter_model.safetensors", "*.safetensors.index.json"),
        *("*_Dense/*", "*_LayerNorm/*", "*_Normalize/*", "0_*/*", "training_args.bin"),
    ),
    "dataset": ("*/*.parquet",),
    "space": ("model/*", "model/*/*", "report.html"),
}
#: Hub names of the models that `tercet demo` brings, and their folders in the user's cache.
_KEPT = {"sentence-transformers/all-MiniLM-L6-v2": "all-MiniLM-L6-v2"}
#: Hub names of teachers, one a recipe's default, that the demo's can stand in for.
_STAND_INS = {
    "cross-encoder/ms-marco-MiniLM-L6-v2": "ms-marco-MiniLM-L12-v2-int8",
    "cross-encoder/ms-marco-MiniLM-L12-v2": "ms-marco-MiniLM-L12-v2-int8",
}
_BROUGHT = "models/"  # the first part of a relative path that the cache has too
_LOCAL_PREFIXES = ("/", "./", "../", "~", "models/")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model's folder, and a digest or commit that changes with the model."""

    path: Path
    identity: str


def resolve(
    name: str, revision: str | None = None, patterns: Sequence[str] = SAFETENSORS
) -> ResolvedModel:
    """Return the folder of a local path or a Hub name, downloaded if necessary.

    `patterns` are the weight files that will be read; at least one must exist, or in place of
    safetensors the older format.
    Raises InputError for a missing folder, a Hub that does not answer, or missing weights.
    """
    refuse_retired(name)
    model = _resolved(name, revision, patterns)
    base = adapter_base(name, _network(model.path))
    return replace(model, identity=f"{model.identity} on {base.identity}") if base else model


def adapter_base(name: str, folder: Path) -> ResolvedModel | None:
    """The model that an adapter folder belongs to; None for any other folder.

    Raises InputError if there is no such model, or if it is an adapter itself.
    """
    found = adapters.base_of(name, folder)
    if found is None:
        return None
    base = _resolved(*found, SAFETENSORS)
    if adapters.base_of(found[0], base.path):
        raise InputError(f"model {name!r}: its base {found[0]!r} is an adapter too: merge that one")
    return base


def _resolved(name: str, revision: str | None, patterns: Sequence[str]) -> ResolvedModel:
    path = local_folder(name)
    if path.is_dir():
        return _local(name, path.resolve(), patterns)
    if path.exists() or name.startswith(_LOCAL_PREFIXES) or name.count("/") > 1:
        hint = "; `tercet demo` brings small models" if name.startswith(_BROUGHT) else ""
        raise InputError(f"model {name!r}: there is no such folder{hint}")
    try:
        return _download(name, revision, patterns)
    except HubSilent:
        kept = cache_folder("models") / _KEPT.get(name, "-")
        if revision is not None or not kept.is_dir():
            raise
        tell_once(f"the Hub did not answer: {name} is read from {kept}")
        return _local(name, kept.resolve(), patterns)


def local_folder(name: str) -> Path:
    """The folder of a model's local name; models/NAME may be in the user's cache."""
    path = Path(name).expanduser()
    if name.startswith(_BROUGHT) and not path.exists():
        kept = cache_folder("models") / name.removeprefix(_BROUGHT)
        return kept if kept.is_dir() else path
    return path


def has_stand_in(name: str) -> bool:
    """Whether the demo's teacher can stand in for a teacher of this name."""
    return name in _STAND_INS


def stand_in(name: str) -> str:
    """The name of a teacher; or of the demo's, if the Hub does not answer and the cache has that.

    A local folder of the name is the teacher. What stands in is another model: a run keeps its
    name.
    """
    other = f"{_BROUGHT}{_STAND_INS.get(name, '-')}"
    if not has_stand_in(name) or local_folder(name).is_dir() or not local_folder(other).is_dir():
        return name
    try:
        _download(name, None, SAFETENSORS)
    except HubSilent:
        tell_once(f"the Hub did not answer: {other} is the teacher, in place of {name}")
        return other
    return name


@functools.cache
def tell_once(text: str) -> None:
    """Warn in the terminal, once a process, in the first process alone."""
    if is_main_process():
        console.warn(text)


class HubSilent(InputError):
    """The Hub gave no model of a name, or did not answer."""


def push_files(
    files: Mapping[str, Path | bytes],
    repo_id: str,
    *,
    kind: Literal["model", "dataset", "space"] = "model",
    private: bool | None = None,
    revision: str | None = None,
    message: str,
) -> str:
    """Commit `files`, by their paths in the repository, and return the commit's address.

    The repository is created if necessary; `private` then decides its visibility, None leaving it
    to the account's default. Files of an earlier push that would be misread are deleted. A Space
    uses Gradio. The token comes from HF_TOKEN or `hf auth login`. Raises InputError if the Hub
    refuses.
    """
    with pushing(repo_id):
        repo = _repository(repo_id, kind, private, revision)
        there = list_repo_files(repo, repo_type=kind, revision=revision)
        left = {name for name in there if any(_is(name, each) for each in _LEFTOVERS[kind])}
        commit = create_commit(
            repo,
            [
                *(CommitOperationAdd(name, content) for name, content in files.items()),
                *(CommitOperationDelete(name) for name in sorted(left - set(files))),
            ],
            commit_message=message,
            repo_type=kind,
            revision=revision,
        )
    return str(commit.commit_url)


def claim_repository(
    repo_id: str, *, private: bool | None = None, revision: str | None = None
) -> None:
    """Create a model's repository if there is none. Raises InputError if the Hub refuses."""
    with pushing(repo_id):
        _repository(repo_id, "model", private, revision)


def _repository(repo_id: str, kind: str, private: bool | None, revision: str | None) -> str:
    """Return the full name of a repository that exists now, with that branch."""
    sdk = "gradio" if kind == "space" else None
    repo = create_repo(
        repo_id, repo_type=kind, private=private, exist_ok=True, space_sdk=sdk
    ).repo_id
    if revision is not None:
        create_branch(repo, branch=revision, repo_type=kind, exist_ok=True)
    return repo


@contextmanager
def pushing(repo_id: str) -> Iterator[None]:
    """The border to the Hub's answers when a repository is written."""
    with border(f"the Hub did not take {repo_id!r}", ": check the network"):
        try:
            yield
        except OfflineModeIsEnabled:
            raise InputError(
                f"the Hub was not asked to take {repo_id!r}: HF_HUB_OFFLINE is set, unset it"
            ) from None
        except HfHubHTTPError as error:
            raise InputError(
                f"the Hub did not take {repo_id!r}: {_said(error)}: {_LOG_IN}"
            ) from error


def _said(error: HfHubHTTPError) -> str:
    """The status and the Hub's own reason, which is not on the first line of the message."""
    status = error.response.status_code if error.response is not None else None
    token = get_token()
    told = one_line(error.server_message or "")
    told = told.replace(token, "[token]") if token else told
    return f"{status} {told}" if status and told else reason(error)


class HubUpload:
    """Gives an encoder with `save_pretrained` a `push_to_hub`."""

    def save_pretrained(self, path: str | Path) -> None:
        """Write a folder that can be loaded."""
        raise NotImplementedError

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        commit_message: str = "Upload a model trained with Tercet",
    ) -> str:
        """Upload what `save_pretrained` writes; return the commit's address.

        Raises InputError as `push_files` does.
        """
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(Path(folder))
            return push_files(
                files_of(Path(folder)),
                repo_id,
                private=private,
                revision=revision,
                message=commit_message,
            )


def files_of(folder: Path) -> dict[str, Path]:
    """Return all files of a folder by their relative paths, for `push_files`."""
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    return {file.relative_to(folder).as_posix(): file for file in files}


def load_tokenizer(name: str, path: Path, **kwargs: Any) -> Any:
    """Load the tokenizer in the folder `path`. Raises InputError naming the model `name`."""
    files = [path / kwargs["gguf_file"]] if "gguf_file" in kwargs else None
    with _loading(name, path, files) as read:
        tokenizer = AutoTokenizer.from_pretrained(read, **kwargs)
    # Some read their files again where they are saved.
    for settings in (vars(tokenizer), tokenizer.init_kwargs):
        for key, value in settings.items():
            if isinstance(value, str) and value.startswith(str(read)):
                settings[key] = value.replace(str(read), str(path), 1)
    return tokenizer


def load_config(name: str, path: Path) -> Any:
    """Load the configuration in the folder `path`. Raises InputError naming the model `name`."""
    with _loading(name, path) as read:
        return AutoConfig.from_pretrained(read)


def load_model(auto_class: Any, name: str, path: Path, *, spare: str = "-", **kwargs: Any) -> Any:
    """Load an `auto_class` model for inference from the weights in the folder `path`.

    An adapter is merged into its base. Raises InputError if a weight is missing and would be
    random, unless its name begins with `spare`.
    """
    if base := adapter_base(name, path):
        model = load_model(auto_class, str(base.path), base.path, spare=spare, **kwargs)
        return adapters.merge(model, name, path).eval()
    with _loading(name, path) as read:
        safe = bool(matching(read, SAFETENSORS))
        model, report = auto_class.from_pretrained(
            read, use_safetensors=safe, weights_only=True, output_loading_info=True, **kwargs
        )
    model.config._name_or_path = model.name_or_path = str(path)
    missing = sorted(key for key in report["missing_keys"] if not key.startswith(spare))
    if missing:
        raise InputError(
            f"model {name!r} lacks weights of a {type(model).__name__} ({missing[0]}, and"
            f" {len(missing) - 1} more): it is a model of another kind"
        )
    check_finite(name, model)
    return model.eval()


def load_gguf(auto_class: Any, name: str, file: Path, **kwargs: Any) -> Any:
    """Load a GGUF file, dequantised, as an `auto_class` model that can be saved."""
    with _loading(name, file.parent, [file]) as read:
        check_layers(name, AutoConfig.from_pretrained(read, gguf_file=file.name).to_dict())
        model = auto_class.from_pretrained(read, gguf_file=file.name, **kwargs)
    # transformers refuses to save what it believes is still quantised.
    del model.config.quantization_config
    model.hf_quantizer = None
    model.is_quantized = False
    return model


@contextmanager
def quiet(*, bars_alone: bool = False) -> Iterator[None]:
    """Silence transformers' progress bars and, unless `bars_alone`, its reports."""
    bars, verbosity = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    if not bars_alone:
        logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def loading(name: str) -> AbstractContextManager[None]:
    """The border to the libraries that read a model's files."""
    return border(f"model {name!r} does not load")


@contextmanager
def _loading(name: str, path: Path, files: Sequence[Path] | None = None) -> Iterator[Path]:
    """The same border, quietly, around a folder of those files alone.

    By default they are those of a network and its tokenizer.
    """
    with alone(path, network_files(path) if files is None else files) as read, quiet():
        try:
            with loading(name):
                if (read / "config.json").is_file():
                    check_layers(name, json.loads((read / "config.json").read_bytes()))
                yield read
        except InputError as error:
            said = str(error).replace(str(read), str(path))
            raise InputError(said) from error.__cause__


def _local(name: str, path: Path, patterns: Sequence[str]) -> ResolvedModel:
    verify_folder(path)
    digest = hashlib.sha256()
    for file in model_files(path, _present(name, path, patterns)):
        refuse_pointer(name, file)
        digest.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return ResolvedModel(path, f"sha256:{digest.hexdigest()}")


def _download(name: str, revision: str | None, patterns: Sequence[str]) -> ResolvedModel:
    # What holds an ONNX file's weights beside it, by its usual names.
    beside = [f"{file}{end}" for file in patterns if file.endswith(".onnx") for end in _BESIDE]
    path = _snapshot(name, revision, [*_FIRST, *patterns, *beside, CARD])
    if patterns == SAFETENSORS and not _has(path, patterns):
        path = _snapshot(name, revision, OLD_FORMAT)
    if more := _of_modules(path, patterns):
        path = _snapshot(name, revision, more)
    patterns = _present(name, path, patterns)
    asked = set()
    while True:
        try:
            model_files(path, patterns)
        except MissingFile as missing:
            if missing.path in asked:
                raise
            asked.add(missing.path)
            _snapshot(name, revision, [missing.path.relative_to(path).as_posix()])
        else:
            return ResolvedModel(path, f"commit:{path.name}")  # snapshots/<commit>


def _of_modules(path: Path, patterns: Sequence[str]) -> list[str]:
    """Patterns of modules in folders of unusual names."""
    first, *others = [*(each.relative_to(path).as_posix() for each in module_folders(path)), "."]
    unusual = [each for each in others if each != "." and not fnmatch(each, "[0-9]*_*")]
    wanted = [] if first == "." else [f"{first}/{name}" for name in (*NETWORK, *patterns)]
    return wanted + [f"{each}/{name}" for each in unusual for name in MODULE]


def _snapshot(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    what = f"model {name!r} is no local folder, and the Hub gave no model of that name"
    with border(what, f": {_WITHOUT_HUB}", kind=HubSilent):
        try:
            return _fetched(name, revision, patterns)
        except IncompleteSnapshotError:  # without a network; the card alone may be what is missing
            return _fetched(name, revision, [each for each in patterns if each != CARD])
        except RevisionNotFoundError as error:
            raise InputError(f"model {name!r} has no revision {revision!r} on the Hub") from error


def _fetched(name: str, revision: str | None, patterns: Sequence[str]) -> Path:
    # The Hub's * also matches a slash, so folders of other formats are excluded by name.
    return Path(
        snapshot_download(
            name,
            revision=revision,
            allow_patterns=[*patterns],
            ignore_patterns=["openvino/*", "checkpoint-*/*"],
        )
    )


def _present(name: str, path: Path, patterns: Sequence[str]) -> Sequence[str]:
    """Return the patterns of the weights that exist: `patterns`, or the older format's."""
    if _has(path, patterns):
        return patterns
    if patterns == SAFETENSORS and _has(path, OLD_FORMAT):
        return OLD_FORMAT
    raise InputError(f"model {name!r} has no weights: {' or '.join(patterns)}")


def _has(path: Path, patterns: Sequence[str]) -> bool:
    """Whether there are such files where the network is: older folders have 0_Transformer."""
    return bool(matching(path, patterns) or matching(_network(path), patterns))


def _network(path: Path) -> Path:
    return (module_folders(path) or [path])[0]


def _is(relative: str, pattern: str) -> bool:
    """Whether a path fits a pattern, whose * stops at a slash."""
    return fnmatch(relative, pattern) and relative.count("/") == pattern.count("/")
