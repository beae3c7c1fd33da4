"""Read and write sentence-transformers' files: modules, pooling, layers, prompts and lengths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

from tercet.core.schema import InputError
from tercet.modeling.encoders.known_models import Similarity, known_as
from tercet.modeling.encoders.layers import Layer, LayerKind, activation_named
from tercet.modeling.encoders.pooling import MODES, joined
from tercet.modeling.encoders.st_keys import (
    DENSE,
    LAYER_NORM,
    MODEL,
    MODULE,
    NORMALIZE,
    POOLING,
    TRANSFORMER,
    TRANSFORMER_FILES,
    loading_settled,
    read_json,
)
from tercet.modeling.model_files import module_folders

_DEFAULT_MAX_LENGTH = 512
_MIN_MAX_LENGTH = 3  # two special tokens and one of the text
#: No model's limit: that of one that takes texts of any length.
NO_LIMIT = 1_000_000

# Releases before 5 read only the first name, later ones all.
LEGACY_PACKAGE = "sentence_transformers.models."
_MODULE_PACKAGES = (
    LEGACY_PACKAGE,
    "sentence_transformers.base.modules.",
    "sentence_transformers.sentence_transformer.modules.",
)
_KINDS = ("Transformer", "StaticEmbedding", "Pooling", "Dropout", *get_args(LayerKind))
POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """How texts become vectors, beyond a checkpoint's weights.

    `pooling` is a mode or several `joined`; without `include_prompt` it leaves the prompt's tokens
    out. `layers` come between it and the vector, less a last Normalize: `similarity` "cosine" means
    vectors of unit length. `truncate_dim` first dimensions are kept. Lengths are in tokens, special
    ones included; None means not given, for `query_max_length` the passages'. A `static` model is a
    table of token vectors. `assumed` names what no file says.
    """

    pooling: str = "mean"
    similarity: Similarity = "cosine"
    query_prompt: str = ""
    passage_prompt: str = ""
    max_length: int | None = None
    query_max_length: int | None = None
    lower_case: bool = False
    include_prompt: bool = True
    layers: tuple[Layer, ...] = ()
    truncate_dim: int | None = None
    static: bool = False
    assumed: tuple[str, ...] = field(default=(), compare=False)

    def within(self, limit: int) -> EncoderConfig:
        """Cap lengths at the model's limit: those in files are sometimes too large."""
        return replace(
            self,
            max_length=self.max_length and min(self.max_length, limit),
            query_max_length=self.query_max_length and min(self.query_max_length, limit),
        )

    def settled(self, limit: int, usual: int, name: str) -> EncoderConfig:
        """Set lengths that are not given, to `usual` or 512 at most.

        Raises InputError for a length above `limit`.
        """
        longest = self.max_length or min(limit, usual, _DEFAULT_MAX_LENGTH)
        longest_query = self.query_max_length or longest
        for key, value in {"max_length": longest, "query_max_length": longest_query}.items():
            if not _MIN_MAX_LENGTH <= value <= limit:
                raise InputError(
                    f"model {name!r} takes {_MIN_MAX_LENGTH} to {limit} tokens,"
                    f" but {key} is {value}"
                )
        return replace(self, max_length=longest, query_max_length=longest_query)

    def overridden(self, given: Mapping[str, Any]) -> EncoderConfig:
        """The same with some fields set, which are then not assumed."""
        said = {_ASSUMED_AS.get(key, key) for key in given}
        left = tuple(name for name in self.assumed if name not in said)
        return replace(self, **given, assumed=left)

    def effective(self) -> dict[str, Any]:
        """What is in effect, for a manifest; `assumed` is what no file says, with its value."""
        told = {
            "pooling": self.pooling,
            "similarity": self.similarity,
            "query_prompt": self.query_prompt or "none",
            "passage_prompt": self.passage_prompt or "none",
            "max_length": self.max_length,
            "query_max_length": self.query_max_length,
        }
        return told | ({"assumed": self.assumptions()} if self.assumed else {})

    def assumptions(self) -> str:
        """What no file says, with the value that is in effect: "similarity cosine, no prompts"."""
        return ", ".join(
            "no prompts" if name == "prompts" else f"{name} {getattr(self, name)}"
            for name in self.assumed
        )


_ASSUMED_AS = {"query_prompt": "prompts", "passage_prompt": "prompts"}


@dataclass(frozen=True, slots=True)
class Module:
    """An entry of modules.json: its kind, and its folder."""

    kind: str
    path: Path


def read_modules(folder: Path) -> list[Module]:
    """Return the modules of a folder, in order; none for a plain transformers folder.

    Raises InputError for one that cannot be honoured, by its name.
    """
    file = folder / "modules.json"
    entries = read_json(file, [])
    for entry in entries:
        if not isinstance(entry, dict):
            raise InputError(f"{file}: a list of objects is expected")
        MODULE.check(file, entry)
    kinds = [_kind(entry, file) for entry in entries]
    modules = [Module(*each) for each in zip(kinds, module_folders(folder), strict=True)]
    _check_order(file, [module.kind for module in modules])
    # Dropout computes nothing outside training, where a recipe's key sets it.
    return [module for module in modules if module.kind != "Dropout"]


def transformer_folder(folder: Path) -> Path:
    """Where the transformer's weights and tokenizer lie: older folders have 0_Transformer."""
    modules = read_modules(folder)
    return modules[0].path if modules else folder


def read_config(folder: Path, name: str = "", pooling: str | None = None) -> EncoderConfig:
    """Read the configuration in `folder`, with sentence-transformers' defaults for the rest.

    Pooling and similarity that the files leave out come from a table of well-known models, by
    `name`; `pooling` is one that is given in place of the files'. Raises InputError for what cannot
    be reproduced, and for a folder that leaves pooling out.
    """
    modules = read_modules(folder)
    said: dict[str, Any] = {}
    if modules and modules[0].kind == "Transformer":
        said = _pooling(modules[1].path / "config.json")
    layers = [_layer(module) for module in modules if module.kind in get_args(LayerKind)]
    return _settings(folder, modules, layers, said | _named(name, modules, pooling))


def _settings(
    folder: Path, modules: Sequence[Module], layers: list[Layer], said: dict[str, Any]
) -> EncoderConfig:
    file = folder / "config_sentence_transformers.json"
    settings = read_json(file, {})
    MODEL.check(file, settings)
    similarity = _similarity(settings, file)
    truncate_dim = settings.get("truncate_dim")
    if layers[-1:] == [Layer("Normalize")] and not truncate_dim:
        layers, similarity = layers[:-1], "cosine"
    static = bool(modules) and modules[0].kind == "StaticEmbedding"
    lengths = {"max_length": NO_LIMIT} if static else _lengths(folder, modules)
    unsaid = {
        "pooling": "similarity" in said,
        "similarity": similarity is None,
        "prompts": not settings.get("prompts"),
        "max_length": not static and lengths.get("max_length") in (None, NO_LIMIT),
    }
    query_prompt, passage_prompt = _prompts(settings)
    fields: dict[str, Any] = {"similarity": "cosine"} | said | lengths
    if similarity is not None:
        fields["similarity"] = similarity
    return EncoderConfig(
        **fields,
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        layers=tuple(layers),
        truncate_dim=truncate_dim,
        static=static,
        assumed=tuple(name for name, assumed in unsaid.items() if assumed),
    )


def _named(name: str, modules: Sequence[Module], pooling: str | None) -> dict[str, Any]:
    """What the name of a plain folder's model says; nothing where modules.json says it."""
    if modules:
        return {}
    known = known_as(name)
    if known is not None:
        return {"pooling": known[0], "similarity": known[1]}
    if pooling is not None:
        return {"pooling": pooling}
    raise InputError(
        f"model {name!r} has no modules.json, and nothing else says how its token vectors become"
        f" one: set model.pooling (`pooling` of a retriever or a system): {' or '.join(MODES)}"
    )


def _kind(entry: Mapping[str, Any], file: Path) -> str:
    name = str(entry.get("type", ""))
    kind = name.rpartition(".")[2]
    if not name.startswith("sentence_transformers."):
        raise InputError(
            f"{file}: {name!r} is code from outside sentence-transformers,"
            " which is never run: choose another model"
        )
    if not name.startswith(_MODULE_PACKAGES):
        raise InputError(f"{file}: the module {name} is not supported: it makes no dense vectors")
    if kind not in _KINDS:
        raise InputError(f"{file}: the module {kind} is not supported: only {', '.join(_KINDS)}")
    return kind


def _check_order(file: Path, kinds: list[str]) -> None:
    first = {"Transformer": ["Transformer", "Pooling"], "StaticEmbedding": ["StaticEmbedding"]}
    start = first.get(kinds[0], ["Transformer", "Pooling"]) if kinds else []
    later = [kind for kind in kinds[len(start) :] if kind not in (*get_args(LayerKind), "Dropout")]
    if kinds[: len(start)] != start or later:
        raise InputError(
            f"{file}: the modules {' + '.join(kinds)} are not supported in this order: only"
            " Transformer + Pooling or StaticEmbedding, then Dense, LayerNorm and Normalize"
        )


def _pooling(file: Path) -> dict[str, Any]:
    config = read_json(file, None)
    POOLING.check(file, config)
    mode: Any = config.get("pooling_mode")
    if mode is None:
        mode = [mode for flag, mode in POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes: list[Any] = [mode] if isinstance(mode, str) else list(mode)
    for each in modes:
        if each not in MODES:
            raise InputError(f"{file}: pooling {each!r} is not supported: only {', '.join(MODES)}")
    return {"pooling": joined(modes), "include_prompt": bool(config.get("include_prompt", True))}


def _layer(module: Module) -> Layer:
    file = module.path / "config.json"
    if module.kind == "Normalize":
        NORMALIZE.check(file, read_json(file, {}))
        return Layer("Normalize")
    config = read_json(file, None)
    if module.kind == "LayerNorm":
        LAYER_NORM.check(file, config)
        return Layer("LayerNorm")
    DENSE.check(file, config)
    # sentence-transformers' default is Tanh.
    named = config.get("activation_function", "torch.nn.Tanh")
    activation = activation_named(str(named))
    if activation is None:
        raise InputError(
            f"{file}: the activation {named!r} is not supported: only those of torch.nn that have"
            " no weights"
        )
    return Layer("Dense", activation, bool(config.get("use_residual")))


def _lengths(folder: Path, modules: Sequence[Module]) -> dict[str, Any]:
    """Lengths and case. With modules the tokenizer's length stands in for one that is not said."""
    inner = modules[0].path if modules else folder
    files = (inner / name for name in TRANSFORMER_FILES)
    file = next((file for file in files if file.exists()), inner / TRANSFORMER_FILES[0])
    settings = loading_settled(read_json(file, {}))
    TRANSFORMER.check(file, settings)
    usual = settings.get("max_seq_length") or (_tokenizers(inner) if modules else None)
    passages = settings.get("document_length") or usual
    queries = settings.get("query_length") or (usual if passages != usual else None)
    older = read_json(folder / "tercet.json", {}).get("query_max_length")
    return {
        "max_length": passages,
        "query_max_length": queries or older,
        "lower_case": bool(settings.get("do_lower_case", False)),
    }


def _tokenizers(folder: Path) -> int:
    """The tokenizer's own maximum length; NO_LIMIT where it has none."""
    config = read_json(folder / "tokenizer_config.json", {})
    return min(int(config.get("model_max_length") or NO_LIMIT), NO_LIMIT)


def _similarity(settings: dict[str, Any], file: Path) -> Similarity | None:
    similarity: Any = settings.get("similarity_fn_name")
    if similarity is not None and similarity not in get_args(Similarity):
        raise InputError(f"{file}: similarity {similarity!r} is not supported: only dot or cosine")
    return similarity


def _prompts(settings: dict[str, Any]) -> tuple[str, str]:
    prompts = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name")) or ""
    passage = next((prompts[k] for k in ("document", "passage", "corpus") if k in prompts), default)
    return prompts.get("query", default) or "", passage or ""
