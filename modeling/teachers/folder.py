"""What a reranker's folder says of how it is read, in sentence-transformers' files and others.

A key that changes what the model computes is honoured, or the folder is refused by its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tercet.core.files import read_json
from tercet.core.schema import InputError
from tercet.modeling.model_files import module_folders

#: Files of the transformer module, the newest name first.
_TRANSFORMER_FILES = (
    "sentence_bert_config.json",
    *(
        f"sentence_{kind}_config.json"
        for kind in ("roberta", "distilbert", "camembert", "albert", "xlm-roberta", "xlnet")
    ),
)
#: Keys of config_sentence_transformers.json that change no logit.
_IDLE_OF_MODEL = {"__version__", "model_type", "activation_fn", "similarity_fn_name"}
#: Keys of the transformer module that change no logit of a pair of texts.
_IDLE_OF_TRANSFORMER = {"unpad_inputs", "module_output_name", "transformer_task"}
#: Arguments of loading that change no logit in float32.
_IDLE_ARGUMENTS = {"attn_implementation", "torch_dtype", "dtype", "revision", "use_fast"}
#: Arguments of a tokenizer that are passed on.
_TOKENIZER_ARGUMENTS = {"padding_side", "truncation_side", "model_max_length", "chat_template"}


@dataclass(frozen=True)
class Folder:
    """What the files of a reranker's folder say."""

    #: config.json.
    config: Mapping[str, Any]
    #: Whether modules.json lists modules of sentence-transformers.
    modules: bool = False
    #: Token ids for yes and, where there are two, no, whose logits are the score.
    answers: tuple[int, ...] = ()
    #: Whether pairs are written by the chat template: None where nothing says.
    chat: bool | None = None
    #: Messages as a list of typed parts ("structured") or a text ("flat"); "auto": as rendered.
    messages: str = "auto"
    #: Arguments of the chat template, and of the tokenizer.
    template: Mapping[str, Any] = field(default_factory=dict)
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    #: What stands before the query, or is the system's message.
    prompt: str = ""
    lower: bool = False
    #: The most tokens that are read, if it says.
    longest: int | None = None
    #: Whether some layers are computed in float32 always.
    exact: bool = False

    @property
    def head(self) -> str:
        """What gives the score: "label", "answer" (a causal model) or "seq2seq"."""
        (architecture, *_) = self.config.get("architectures") or [""]
        if self.answers or architecture.endswith(("ForCausalLM", "LMHeadModel")):
            return "answer"
        decodes = architecture.endswith("ForConditionalGeneration")
        return "seq2seq" if decodes and self.config.get("is_encoder_decoder", True) else "label"


def read_folder(path: Path, name: str) -> Folder:
    """Read the files of a reranker. Raises InputError naming a key that is not known."""
    config = _read(path / "config.json")
    for key, said in (
        ("auto_map", "code of its own, which is never run"),
        ("vision_config", "images"),
        ("audio_config", "sound"),
    ):
        if config.get(key):
            raise InputError(f"model {name!r}: config.json has {key}, {said}: it is not supported")
    if (path / "adapter_config.json").exists():
        raise InputError(
            f"model {name!r} is a PEFT adapter (adapter_config.json): merge it into its base "
            "model, `merge_and_unload()`, and name that folder"
        )
    # Without modules.json sentence-transformers reads none of its own files.
    folder = Folder(config)
    return _with_modules(folder, path, name) if (path / "modules.json").exists() else folder


def _with_prompt(folder: Folder, model: Mapping[str, Any], name: str) -> Folder:
    """Add the prompt that stands before every pair."""
    if model.get("model_type") != "CrossEncoder":
        raise InputError(
            f"model {name!r}: modules.json is of a {model.get('model_type', 'SentenceTransformer')}"
            " (config_sentence_transformers.json), which is no reranker"
        )
    known = {"prompts", "default_prompt_name", "keep_in_fp32_modules"} | _IDLE_OF_MODEL
    _refuse_others(model, known, "config_sentence_transformers.json", name)
    prompts, default = model.get("prompts") or {}, model.get("default_prompt_name")
    if default is not None and default not in prompts:
        raise InputError(
            f"model {name!r}: config_sentence_transformers.json has default_prompt_name "
            f"{default!r}, and no such prompt"
        )
    prompt = prompts[default] if default is not None else ""
    return dataclasses.replace(folder, prompt=prompt, exact=bool(model.get("keep_in_fp32_modules")))


def _with_modules(folder: Folder, path: Path, name: str) -> Folder:
    """Add what modules.json says: a transformer, and the scores of its answers, if any."""
    listed: Any = read_json(path / "modules.json")
    kinds = [str(module.get("type")).rpartition(".")[2] for module in listed]
    ours = all(str(module.get("type")).startswith("sentence_transformers.") for module in listed)
    other = next((k for k in kinds if k not in ("Transformer", "LogitScore")), None)
    if other or not ours or kinds not in (["Transformer"], ["Transformer", "LogitScore"]):
        shown = other or ", ".join(kinds)
        raise InputError(
            f"model {name!r}: modules.json has {shown}, which no reranker is read with: a "
            "Transformer, and LogitScore over a causal model"
        )
    if listed[0].get("path"):
        raise InputError(
            f"model {name!r}: modules.json keeps its transformer in {listed[0]['path']}: move "
            "those files into the folder itself"
        )
    folder = _with_prompt(folder, _read(path / "config_sentence_transformers.json"), name)
    file = next((file for file in _TRANSFORMER_FILES if (path / file).exists()), None)
    read = _with_transformer(folder, _read(path / file) if file else {}, file or "", name)
    if kinds[1:]:
        read = _with_answers(read, module_folders(path)[1] / "config.json", name)
    if read.head == "answer" and not read.answers:
        raise InputError(f"model {name!r}: modules.json scores no answer: LogitScore is missing")
    return read


def _with_transformer(folder: Folder, said: Mapping[str, Any], file: str, name: str) -> Folder:
    """Add what the transformer module's file says."""
    said = {key: value for key, value in said.items() if value not in (None, {}, [], False)}
    of_task = {"label": "sequence-classification", "answer": "text-generation"}.get(folder.head)
    task = said.get("transformer_task", "feature-extraction")
    if task != of_task:
        raise InputError(
            f"model {name!r}: {file or 'modules.json'} says transformer_task {task!r}, which is no "
            f"reranker of its architecture ({of_task})"
        )
    known = {"max_seq_length", "do_lower_case", "modality_config", "processing_kwargs"}
    arguments = {"model_args", "model_kwargs", "config_args", "config_kwargs"}
    of_tokenizer = {"tokenizer_args", "processor_kwargs"}
    _refuse_others(said, known | arguments | of_tokenizer | _IDLE_OF_TRANSFORMER, file, name)
    for key in arguments & set(said):
        _refuse_others(said[key], _IDLE_ARGUMENTS, f"{file}: {key}", name)
    tokenizer: dict[str, Any] = {}
    for key in of_tokenizer & set(said):
        _refuse_others(said[key], _TOKENIZER_ARGUMENTS | _IDLE_ARGUMENTS, f"{file}: {key}", name)
        tokenizer |= {k: v for k, v in said[key].items() if k in _TOKENIZER_ARGUMENTS}
    modalities = said.get("modality_config", {"text": {}})
    processing = said.get("processing_kwargs", {})
    _refuse_others(processing, {"chat_template"}, f"{file}: processing_kwargs", name)
    _check_modalities(modalities, file, name)
    message = modalities.get("message")
    template = processing.get("chat_template", {})
    return dataclasses.replace(
        folder,
        modules=True,
        chat=message is not None,
        messages=(message or {}).get("format", "auto"),
        template={key: value for key, value in template.items() if key != "restore_suffix"},
        tokenizer=tokenizer,
        lower=bool(said.get("do_lower_case")),
        longest=said.get("max_seq_length"),
    )


def _check_modalities(modalities: Mapping[str, Any], file: str, name: str) -> None:
    """Raise InputError where texts are not read by the network's own forward."""
    for kind in ("text", "message"):
        way = modalities.get(kind, {})
        if way.get("method", "forward") != "forward" or way.get(
            "method_output_name", "logits"
        ) not in ("logits", ["logits"]):
            raise InputError(
                f"model {name!r}: {file} reads {kind} by {way.get('method')}, "
                f"{way.get('method_output_name')}: only the logits of forward are supported"
            )
    if not {"text", "message"} & set(modalities):
        raise InputError(f"model {name!r}: {file} reads {', '.join(modalities)} and no text")


def _with_answers(folder: Folder, file: Path, name: str) -> Folder:
    """Add the tokens whose logits are the score."""
    said = _read(file)
    where = "LogitScore's config.json"
    _refuse_others(said, {"true_token_id", "false_token_id", "module_input_name"}, where, name)
    if said.get("module_input_name", "causal_logits") != "causal_logits":
        raise InputError(f"model {name!r}: {where} has module_input_name: it must be causal_logits")
    tokens = (said.get("true_token_id"), said.get("false_token_id"))
    answers = tuple(int(token) for token in tokens if token is not None)
    if tokens[0] is None:
        raise InputError(f"model {name!r}: {where} has no true_token_id")
    return dataclasses.replace(folder, answers=answers)


def _refuse_others(said: Mapping[str, Any], known: Collection[str], file: str, name: str) -> None:
    other = next((key for key in said if key not in known), None)
    if other is not None:
        raise InputError(
            f"model {name!r}: {file} has {other}, which is not supported: without it the model "
            "would be another"
        )


def _read(file: Path) -> Mapping[str, Any]:
    if not file.exists():
        return {}
    said = read_json(file)
    if not isinstance(said, dict):
        raise InputError(f"{file}: it must be a mapping")
    return said
