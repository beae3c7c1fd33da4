"""How a reranker reads a pair and which number is its score: as its folder says, or the recipe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tercet.core.schema import InputError
from tercet.modeling.teachers.folder import Folder
from tercet.modeling.teachers.forms import (
    OF_CAUSAL,
    Format,
    Shown,
    answer_ids,
    by_template,
    published,
)
from tercet.modeling.teachers.inputs import OneText, PairInputs, TwoTexts

_DEFAULT_MAX_LENGTH = 256
_MIN_MAX_LENGTH = 16
#: Whose published form each is.
_WHOSE = {"qwen3": "Qwen3-Reranker", "gemma": "bge-reranker-v2-gemma", "monot5": "monoT5"}


@dataclass(frozen=True)
class Asked:
    """What a recipe says of how a teacher is read; None leaves it to the folder."""

    format: Format | Literal["auto"] = "auto"
    instruction: str | None = None
    label: str | None = None
    answers: Sequence[str] | None = None


@dataclass(frozen=True)
class Reading:
    """What makes the tokens of pairs, and which of the network's numbers is the score."""

    inputs: PairInputs
    #: Tokens whose logits are the score of a language model.
    answers: tuple[int, ...] = ()
    #: The label of a classifier; None where it must have one only.
    label: int | None = None
    #: How pairs are read, in words; empty for a plain cross-encoder.
    said: str = ""


def read_pairs(
    tokenizer: Any,
    folder: Folder,
    head: str,
    names: Sequence[str],
    asked: Asked,
    *,
    name: str,
    max_length: int,
    limit: int,
) -> Reading:
    """Decide how a reranker reads; `names` are its network's inputs, `limit` its most tokens.

    Raises InputError for what does not fit the folder.
    """
    _check_asked(asked, head, name)
    format, assumed = _format(tokenizer, folder, head, asked, name)
    most = min(max_length, folder.longest or max_length)
    label = _label(folder, asked.label, name)
    if format == "pair":
        prompt = folder.prompt if asked.instruction is None else asked.instruction
        two = TwoTexts(tokenizer, names, most, prompt)
        words = asked.answers or (("yes", "no") if head == "answer" else ())
        told = f"pairs of texts, the prompt {prompt!r} before each query" if prompt else ""
        answers, said = _answers(tokenizer, folder, head, asked, words, name)
        return Reading(two, answers, label, _joined(told, said, _said_label(folder, label)))
    shown = _shown(format, tokenizer, folder, asked, name)
    one = OneText(tokenizer, shown.form, most, name=name)
    if one.longest > limit:
        raise InputError(
            f"model {name!r} takes {limit} tokens, and its form of a pair needs {one.frame} beside "
            f"those: set teacher.max_length to {limit - one.frame} or less"
        )
    words = _of_language(folder, format, shown)
    answers, said = _answers(tokenizer, folder, head, asked, words, name)
    whose = f"{_WHOSE[format]}'s published form" if format in _WHOSE else "its chat template"
    told = f"pairs by {whose}" + (", assumed: its folder names none" if assumed else "")
    if shown.instruction:
        told += f", instruction {shown.instruction!r}"
    return Reading(one, answers, label, _joined(told, said, _said_label(folder, label)))


def first_length(max_length: int | None, limit: int, name: str) -> int:
    """The tokens of a pair: as asked for, or 256 or the limit. Raises InputError beyond it."""
    longest = max_length or min(_DEFAULT_MAX_LENGTH, limit)
    if not _MIN_MAX_LENGTH <= longest <= limit:
        raise InputError(
            f"model {name!r} takes {_MIN_MAX_LENGTH} to {limit} tokens, but max_length is {longest}"
        )
    return longest


def _check_asked(asked: Asked, head: str, name: str) -> None:
    """Raise InputError for what a network of this kind does not have."""
    if asked.label is not None and head != "label":
        raise InputError(f"model {name!r} writes words: teacher.label is for classifiers")
    if asked.answers is not None and head == "label":
        raise InputError(f"model {name!r} is a classifier: teacher.answers is for language models")
    wrong = {"label": ("monot5",), "answer": ("monot5",), "seq2seq": ("pair", "chat")}[head]
    if asked.format in wrong or (head == "seq2seq" and asked.format in OF_CAUSAL.values()):
        raise InputError(f"model {name!r}: teacher.format {asked.format} is not for its kind")


def _format(
    tokenizer: Any, folder: Folder, head: str, asked: Asked, name: str
) -> tuple[Format, bool]:
    """The form of a pair, and whether it is assumed by the kind of model alone."""
    kind = folder.config.get("model_type", "")
    if asked.format != "auto":
        return asked.format, False
    if head == "seq2seq":
        if kind in ("t5", "mt5"):
            return "monot5", True
    elif folder.modules:
        return ("chat" if folder.chat else "pair"), False
    elif head == "label":
        return ("chat" if tokenizer.chat_template else "pair"), False
    elif tokenizer.chat_template and _shows_pairs(tokenizer, folder, name):
        return "chat", False
    elif kind in OF_CAUSAL:
        return OF_CAUSAL[kind], True
    raise InputError(
        f"model {name!r} is a language model ({kind}), and nothing in its folder says how it is "
        "shown a pair: give teacher.format, and teacher.answers if its words are others"
    )


def _shows_pairs(tokenizer: Any, folder: Folder, name: str) -> bool:
    try:
        by_template(tokenizer, "", name, messages=folder.messages, arguments=folder.template)
    except InputError:
        return False
    return True


def _shown(format: Format, tokenizer: Any, folder: Folder, asked: Asked, name: str) -> Shown:
    if format != "chat":
        return published(format, tokenizer, asked.instruction, name)
    if not tokenizer.chat_template:
        raise InputError(f"model {name!r} has no chat template: give another teacher.format")
    told = folder.prompt if asked.instruction is None else asked.instruction
    shown = by_template(tokenizer, told, name, messages=folder.messages, arguments=folder.template)
    if asked.instruction and asked.instruction not in shown.form.parts("", "")[0]:
        raise InputError(f"model {name!r}: its chat template does not show teacher.instruction")
    return shown


def _of_language(folder: Folder, format: Format, shown: Shown) -> tuple[str, ...]:
    """The words that answer; mT5's are those of its own training on mMARCO."""
    multilingual = format == "monot5" and folder.config.get("model_type") == "mt5"
    return ("▁yes", "▁no") if multilingual else shown.answers


def _answers(
    tokenizer: Any, folder: Folder, head: str, asked: Asked, words: Sequence[str], name: str
) -> tuple[tuple[int, ...], str]:
    """The tokens whose logits are the score, and the score in words; none for a classifier."""
    if head == "label":
        return (), ""
    if asked.answers is None and folder.answers:
        ids = folder.answers
        words = tokenizer.convert_ids_to_tokens(list(ids))
    else:
        words = list(asked.answers or words)
        ids = answer_ids(tokenizer, words, name)
    over = f"log-odds of {words[0]!r} over {words[1]!r}" if ids[1:] else f"logit of {words[0]!r}"
    return ids, f"score: {over}"


def _label(folder: Folder, asked: str | None, name: str) -> int | None:
    """The number of the label that is asked for."""
    if asked is None:
        return None
    known = {int(number): str(label) for number, label in _labels(folder).items()}
    by_name = [number for number, label in known.items() if label.lower() == asked.lower()]
    if by_name:
        return by_name[0]
    if asked.isdecimal() and (int(asked) in known or not known):
        return int(asked)
    shown = ", ".join(known.values()) or "none that config.json names: give its number"
    raise InputError(f"model {name!r} has no label {asked!r}; there are: {shown}")


def _labels(folder: Folder) -> dict[str, Any]:
    return dict(folder.config.get("id2label") or {})


def _said_label(folder: Folder, label: int | None) -> str:
    if label is None:
        return ""
    return f"score: logit of label {_labels(folder).get(str(label), label)!r}"


def _joined(*parts: str) -> str:
    return "; ".join(part for part in parts if part)
