"""Which keys of a model's folder are honoured, change nothing, or are refused by name.

An allow-list: a key that is not here is refused, as it may change what the model computes.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.core.schema import InputError


@dataclass(frozen=True)
class Keys:
    """The keys of one kind of file.

    `read` are honoured, `idle` change no vector, and `only` may have these values alone. `of` says
    what the file belongs to, for the message.
    """

    of: str
    read: Collection[str] = ()
    idle: Collection[str] = ()
    only: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    def check(self, file: Path, content: Mapping[str, Any]) -> None:
        """Raise InputError that names the first key that is not honoured."""
        for key, value in content.items():
            if key in self.read or key in self.idle:
                continue
            allowed = self.only.get(key)
            if allowed is None:
                raise InputError(f"{file}: the key {key!r} of {self.of} is not known here: {_WAY}")
            if value not in allowed:
                told = " or ".join(json.dumps(each) for each in allowed)
                raise InputError(
                    f"{file}: {key} {_shown(value)} of {self.of} is not supported: only {told}"
                )


_WAY = "it may change the vectors; take it out if it does not, or choose another model"
_TEXT = {"text": {"method": "forward", "method_output_name": "last_hidden_state"}}
_NO_PROCESSING: tuple[Any, ...] = (None, {})
_SENTENCE = (None, "sentence_embedding")
#: Arguments of loading that change speed or number formats; the model is read in float32.
_LOADING = ("attn_implementation", "torch_dtype", "dtype", "trust_remote_code")

#: Names of the file of a Transformer module's settings; the first that is there is read.
TRANSFORMER_FILES = (
    *("sentence_bert_config.json", "sentence_roberta_config.json"),
    *("sentence_distilbert_config.json", "sentence_camembert_config.json"),
    *("sentence_albert_config.json", "sentence_xlm-roberta_config.json"),
    "sentence_xlnet_config.json",
)
MODULE = Keys(
    "a module",
    read=("idx", "name", "path", "type"),
    only={"kwargs": ([], None)},
)
TRANSFORMER = Keys(
    "the module Transformer",
    read=("max_seq_length", "do_lower_case", "query_length", "document_length"),
    idle=("unpad_inputs",),
    only={
        "transformer_task": ("feature-extraction",),
        "modality_config": (_TEXT,),
        "module_output_name": ("token_embeddings",),
        "processing_kwargs": _NO_PROCESSING,
        "query_expansion": (None,),
        "tokenizer_name_or_path": (None, ""),
        **{
            f"{part}_{kind}": _NO_PROCESSING
            for part in ("model", "tokenizer", "processor", "config")
            for kind in ("args", "kwargs")
        },
    },
)
MODEL = Keys(
    "the model",
    read=("prompts", "default_prompt_name", "similarity_fn_name", "truncate_dim"),
    idle=("__version__", "requirements"),
    only={"model_type": ("SentenceTransformer",)},
)
POOLING = Keys(
    "the module Pooling",
    read=(
        *("pooling_mode", "include_prompt", "pooling_mode_cls_token", "pooling_mode_mean_tokens"),
        *("pooling_mode_max_tokens", "pooling_mode_mean_sqrt_len_tokens"),
        *("pooling_mode_weightedmean_tokens", "pooling_mode_lasttoken"),
    ),
    idle=("word_embedding_dimension", "embedding_dimension"),
)
DENSE = Keys(
    "the module Dense",
    read=("activation_function", "use_residual"),
    idle=("in_features", "out_features", "bias"),
    only={"module_input_name": _SENTENCE, "module_output_name": _SENTENCE},
)
LAYER_NORM = Keys("the module LayerNorm", idle=("dimension",))
NORMALIZE = Keys(
    "the module Normalize", only={"module_input_name": _SENTENCE, "module_output_name": _SENTENCE}
)


def refuse_code(folder: Path) -> None:
    """Raise InputError if the transformer or its tokenizer is made by code in the folder."""
    for name in ("config.json", "tokenizer_config.json"):
        for key, value in (read_json(folder / name, {}).get("auto_map") or {}).items():
            if key in ("AutoConfig", "AutoModel", "AutoTokenizer"):
                raise InputError(
                    f"{folder / name}: auto_map {key} names code ({_shown(value)}), which is never"
                    " run: choose a model that transformers knows by itself"
                )


def loading_settled(content: Mapping[str, Any]) -> dict[str, Any]:
    """A Transformer's settings without those arguments of loading that change no vector."""
    return {
        key: {k: v for k, v in value.items() if k not in _LOADING}
        if key.endswith(("_args", "_kwargs")) and isinstance(value, dict)
        else value
        for key, value in content.items()
    }


def read_json(path: Path, default: Any) -> Any:
    """Read a JSON file of `default`'s type; `default` if there is none, unless it is None.

    Raises InputError for a file that is missing without a default, or that holds something else.
    """
    if not path.exists():
        if default is None:
            raise InputError(f"{path} is missing: the folder is not whole")
        return default
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is not JSON: {error}") from error
    expected = dict if default is None else type(default)
    if not isinstance(content, expected):
        raise InputError(f"{path}: a JSON {expected.__name__} is expected")
    return content


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
