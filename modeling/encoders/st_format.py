"""Read and write sentence-transformers' files about pooling, prompts, lengths and projection."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, Literal, get_args

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tercet.core.schema import InputError

Pooling = Literal["mean", "cls"]
Similarity = Literal["dot", "cosine"]

_DEFAULT_MAX_LENGTH = 512
_MIN_MAX_LENGTH = 3  # two special tokens and one of the text

# Releases before 5 read only the first name, later ones all.
_LEGACY_PACKAGE = "sentence_transformers.models."
_MODULE_PACKAGES = (
    _LEGACY_PACKAGE,
    "sentence_transformers.base.modules.",
    "sentence_transformers.sentence_transformer.modules.",
)
_SUPPORTED = [
    ["Transformer", "Pooling", *rest]
    for rest in ([], ["Normalize"], ["Dense"], ["Dense", "Normalize"])
] + [["Transformer", "Pooling", "Normalize", "Dense", *rest] for rest in ([], ["Normalize"])]
_IDENTITY = "torch.nn.modules.linear.Identity"
_POOLING_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}

#: Pooling and similarity of models whose files leave them out, by patterns of their names. The
#: files take precedence.
_KNOWN: dict[str, tuple[Pooling, Similarity]] = {
    "*tas-b*": ("cls", "dot"),
    "*tasb*": ("cls", "dot"),
    "*co-condenser*": ("cls", "dot"),
    "*contriever*": ("mean", "dot"),
    "msmarco-*-dot-*": ("mean", "dot"),
    "multi-qa-*-dot-*": ("cls", "dot"),
}


@dataclass(frozen=True, slots=True)
class EncoderConfig:
    """How texts become vectors, beyond a checkpoint's weights.

    `similarity` "cosine" means vectors of unit length. Lengths are in tokens, special ones
    included; None means not given, for `query_max_length` the passages'. `projected` is the
    similarity of the vectors before a linear projection into another space; None without one.
    """

    pooling: Pooling = "mean"
    similarity: Similarity = "cosine"
    query_prompt: str = ""
    passage_prompt: str = ""
    max_length: int | None = None
    query_max_length: int | None = None
    lower_case: bool = False
    projected: Similarity | None = None

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


def read_config(folder: Path, name: str = "") -> EncoderConfig:
    """Read the configuration in `folder`, with sentence-transformers' defaults for the rest.

    Pooling and similarity that the files leave out come from a table of well-known models, by
    `name`. Raises InputError for modules, pooling or a similarity that cannot be reproduced.
    """
    modules = _read(folder / "modules.json", default=[])
    kinds = [_module_kind(module, folder) for module in modules]
    if modules and kinds not in _SUPPORTED:
        raise InputError(
            f"{folder / 'modules.json'}: modules {' + '.join(kinds)} are not supported:"
            " only Transformer + Pooling, with or without Normalize, and a Dense after them, with"
            " or without Normalize"
        )
    projected: Similarity | None = None
    if "Dense" in kinds:
        projected = "cosine" if kinds[2] == "Normalize" else "dot"
    settings = _read(folder / "config_sentence_transformers.json", default={})
    lengths = _read(folder / "sentence_bert_config.json", default={})
    tokenizer = _read(folder / "tokenizer_config.json", default={}) if modules else {}
    query_prompt, passage_prompt = _prompts(settings)
    known = (value for end, value in _KNOWN.items() if fnmatch(Path(name).name.lower(), end))
    pooling, similarity = next(known, ("mean", "cosine"))
    return EncoderConfig(
        pooling=_pooling(folder / modules[1]["path"] / "config.json") if modules else pooling,
        similarity=(
            "cosine" if kinds[-1:] == ["Normalize"] else _similarity(settings, similarity, folder)
        ),
        query_prompt=query_prompt,
        passage_prompt=passage_prompt,
        max_length=lengths.get("max_seq_length") or tokenizer.get("model_max_length"),
        query_max_length=_read(folder / "tercet.json", default={}).get("query_max_length"),
        lower_case=bool(lengths.get("do_lower_case", False)),
        projected=projected,
    )


def read_projection(folder: Path) -> nn.Linear | None:
    """Read the linear layer of the Dense module in `folder`, float32; None if there is none.

    Raises InputError for a module that does more, or without weights.
    """
    modules = _read(folder / "modules.json", default=[])
    paths = [module["path"] for module in modules if _module_kind(module, folder) == "Dense"]
    if not paths:
        return None
    dense = folder / paths[0]
    _check_linear(dense / "config.json")
    file = dense / "model.safetensors"
    try:
        weights = load_file(file)
        weight, bias = weights["linear.weight"], weights.get("linear.bias")
    except (OSError, SafetensorError, KeyError) as error:
        raise InputError(
            f"{file} is not the weights of a Dense module ({error}): load the model with"
            " sentence-transformers and save it again"
        ) from None
    return linear(weight, bias)


def linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A float32 linear layer with copies of `weight` [out, in] and `bias` [out]."""
    # Without initialisation, which would advance torch's random state.
    layer: nn.Linear = nn.utils.skip_init(
        nn.Linear, weight.shape[1], weight.shape[0], bias=bias is not None
    )
    named = {"weight": weight} if bias is None else {"weight": weight, "bias": bias}
    layer.load_state_dict(named)
    return layer


def write_config(
    folder: Path, config: EncoderConfig, dimension: int, projection: nn.Linear | None = None
) -> None:
    """Write `config` so that sentence-transformers, old and new, encodes to the same vectors.

    `dimension` is the transformer's; `projection` becomes a Dense module.
    """
    kinds = ["Transformer", "Pooling"]
    if projection is not None:
        kinds += [*(["Normalize"] if config.projected == "cosine" else []), "Dense"]
    kinds += ["Normalize"] if config.similarity == "cosine" else []
    paths = ["", *(f"{i}_{kind}" for i, kind in enumerate(kinds[1:], 1))]
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": _LEGACY_PACKAGE + kind}
        for i, (kind, path) in enumerate(zip(kinds, paths, strict=True))
    ]
    for path in paths[1:]:
        (folder / path).mkdir(parents=True, exist_ok=True)
    if projection is not None:
        _write_projection(folder / paths[kinds.index("Dense")], projection)
    pooling: dict[str, Any] = {"word_embedding_dimension": dimension}
    pooling |= {flag: mode == config.pooling for flag, mode in list(_POOLING_FLAGS.items())[:4]}
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", pooling)
    _write(
        folder / "sentence_bert_config.json",
        {"max_seq_length": config.max_length, "do_lower_case": config.lower_case},
    )
    _write(
        folder / "config_sentence_transformers.json",
        {
            "prompts": {"query": config.query_prompt, "document": config.passage_prompt},
            "default_prompt_name": None,
            "similarity_fn_name": config.similarity,
        },
    )
    (folder / "tercet.json").unlink(missing_ok=True)
    if config.query_max_length not in (None, config.max_length):
        _write(folder / "tercet.json", {"query_max_length": config.query_max_length})


def _write_projection(folder: Path, projection: nn.Linear) -> None:
    weights = {"linear.weight": projection.weight, "linear.bias": projection.bias}
    given = {name: value for name, value in weights.items() if value is not None}
    settings = {
        "in_features": projection.in_features,
        "out_features": projection.out_features,
        "bias": projection.bias is not None,
        "activation_function": _IDENTITY,
    }
    _write(folder / "config.json", settings)
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in given.items()}
    save_file(tensors, folder / "model.safetensors")


def _check_linear(path: Path) -> None:
    config = _read(path, default={})
    # sentence-transformers' default is Tanh.
    activation = config.get("activation_function", "torch.nn.modules.activation.Tanh")
    if activation not in (_IDENTITY, "torch.nn.Identity"):
        raise InputError(
            f"{path}: a Dense module with the activation {activation!r} is not supported: only"
            f" {_IDENTITY}"
        )
    ends = {config.get(f"module_{end}_name") or "sentence_embedding" for end in ("input", "output")}
    if ends != {"sentence_embedding"} or config.get("use_residual"):
        raise InputError(f"{path}: a Dense module that does more than project is not supported")


def _module_kind(module: dict[str, Any], folder: Path) -> str:
    name = str(module.get("type", ""))
    kind = name.rpartition(".")[2]
    if not name.startswith(_MODULE_PACKAGES):
        raise InputError(
            f"{folder / 'modules.json'}: {name!r} is code from outside sentence-transformers,"
            " which is never run: choose another model"
        )
    if kind == "Transformer" and module.get("path"):
        raise InputError(
            f"{folder / 'modules.json'}: the weights lie in the folder {module['path']!r}:"
            " move them beside modules.json"
        )
    return kind


def _pooling(path: Path) -> Pooling:
    config = _read(path, default={})
    mode: Any = config.get("pooling_mode")
    if mode is None:
        mode = [mode for flag, mode in _POOLING_FLAGS.items() if config.get(flag)] or ["mean"]
    modes: list[Any] = [mode] if isinstance(mode, str) else list(mode)
    if len(modes) != 1 or modes[0] not in get_args(Pooling):
        raise InputError(f"{path}: pooling {' + '.join(modes)} is not supported: only mean or cls")
    if config.get("include_prompt", True) is False:
        raise InputError(f"{path}: pooling that leaves the prompt out is not supported")
    return modes[0]


def _similarity(settings: dict[str, Any], unsaid: Similarity, folder: Path) -> Similarity:
    similarity: Any = settings.get("similarity_fn_name") or unsaid
    if similarity not in get_args(Similarity):
        raise InputError(
            f"{folder / 'config_sentence_transformers.json'}: similarity {similarity!r} is not"
            " supported: only dot or cosine"
        )
    return similarity


def _prompts(settings: dict[str, Any]) -> tuple[str, str]:
    prompts = settings.get("prompts") or {}
    default = prompts.get(settings.get("default_prompt_name")) or ""
    passage = next((prompts[k] for k in ("document", "passage", "corpus") if k in prompts), default)
    return prompts.get("query", default) or "", passage or ""


def _read(path: Path, default: Any) -> Any:
    if not path.exists():
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, type(default)):
        raise InputError(f"{path}: a JSON {type(default).__name__} is expected")
    return content


def _write(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
