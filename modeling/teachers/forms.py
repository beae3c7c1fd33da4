"""How rerankers that are language models are shown a pair: by a chat template, or as published.

Sources: the model cards of Qwen3-Reranker and bge-reranker-v2-gemma; monoT5, arXiv 2003.06713.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tercet.core.schema import InputError
from tercet.core.text import one_line
from tercet.modeling.teachers.inputs import Form

#: "pair" is the tokenizer's form of two texts, "chat" the folder's chat template.
Format = Literal["pair", "chat", "qwen3", "gemma", "monot5"]

#: The instructions that the published formulas have where none is given.
_INSTRUCTIONS = {
    "qwen3": "Given a web search query, retrieve relevant passages that answer the query",
    "gemma": (
        "Given a query A and a passage B, determine whether the passage contains an answer to the "
        "query by providing a prediction of either 'Yes' or 'No'."
    ),
}
_QWEN3_BEFORE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and "
    'the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n"
)
_QWEN3_AFTER = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
#: Words whose logits are the score: what stands for yes, then what for no, if anything.
_ANSWERS = {
    "qwen3": ("yes", "no"),
    "chat": ("yes", "no"),
    "gemma": ("Yes",),
    "monot5": ("▁true", "▁false"),
}
#: The published formula of a causal model by its model_type, where the folder names none.
OF_CAUSAL: Mapping[str, Format] = {"qwen3": "qwen3", "gemma": "gemma"}
_PROBES = ("alpha one", "bravo two")


@dataclass(frozen=True)
class Shown:
    """A form, the instruction in it, and the words that answer."""

    form: Form
    instruction: str
    answers: tuple[str, ...]


def published(format: Format, tokenizer: Any, instruction: str | None, name: str) -> Shown:
    """A published form. Raises InputError for an instruction that it has no place for."""
    if format == "monot5":
        if instruction is not None:
            raise InputError(f"model {name!r}: format monot5 has no place for teacher.instruction")
        return Shown(_monot5(tokenizer), "", _ANSWERS[format])
    told = _INSTRUCTIONS[format] if instruction is None else instruction
    form = (_qwen3 if format == "qwen3" else _gemma)(tokenizer, told, name)
    return Shown(form, told, _ANSWERS[format])


def _ids(tokenizer: Any, text: str) -> list[int]:
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def _qwen3(tokenizer: Any, instruction: str, name: str) -> Form:
    def parts(query: str, passage: str) -> Sequence[str]:
        return [f"<Instruct>: {instruction}\n<Query>: {query}\n<Document>: {passage}"]

    return Form(parts, (_ids(tokenizer, _QWEN3_BEFORE), _ids(tokenizer, _QWEN3_AFTER)))


def _gemma(tokenizer: Any, instruction: str, name: str) -> Form:
    if tokenizer.bos_token_id is None:
        raise InputError(f"model {name!r}: format gemma begins with a token that it lacks, bos")
    between, told = _ids(tokenizer, "\n"), _ids(tokenizer, instruction)

    def parts(query: str, passage: str) -> Sequence[str]:
        return [f"A: {query}", f"B: {passage}"]

    return Form(parts, ([tokenizer.bos_token_id], between, [*between, *told]))


def _monot5(tokenizer: Any) -> Form:
    def parts(query: str, passage: str) -> Sequence[str]:
        return [f"Query: {query} Document: {passage} Relevant:"]

    return Form(parts, ([], [tokenizer.eos_token_id]))


def by_template(
    tokenizer: Any, prompt: str, name: str, *, messages: str, arguments: Mapping[str, Any]
) -> Shown:
    """The form of the tokenizer's chat template, with a query, a document and a system's prompt.

    Raises InputError for a template that shows no query or no document.
    """
    why = "it has none"
    for shape in ("flat", "structured") if messages == "auto" else (messages,):
        show = _rendering(tokenizer, prompt, shape == "structured", arguments)
        try:
            shown = show(*_PROBES)
        except Exception as error:  # a template may raise anything
            why = f"it fails ({one_line(str(error))[:120]})"
            continue
        if all(probe in shown for probe in _PROBES):
            parts = _one(show)
            return Shown(Form(parts, ([], [])), prompt, _ANSWERS["chat"])
        why = "it shows no message of role query, or of role document"
    raise InputError(
        f"model {name!r}: its chat template writes no pair, {why}: give teacher.format, pair or a "
        "published one"
    )


def _one(show: Callable[[str, str], str]) -> Callable[[str, str], Sequence[str]]:
    return lambda query, passage: [show(query, passage)]


def _rendering(
    tokenizer: Any, prompt: str, structured: bool, arguments: Mapping[str, Any]
) -> Callable[[str, str], str]:
    """A function of query and passage that renders the template."""

    def message(role: str, text: str) -> dict[str, Any]:
        content: Any = [{"type": "text", "text": text}] if structured else text
        return {"role": role, "content": content}

    def show(query: str, passage: str) -> str:
        system = [message("system", prompt)] if prompt else []
        pair = [message("query", query), message("document", passage)]
        return str(tokenizer.apply_chat_template([*system, *pair], tokenize=False, **arguments))

    return show


def answer_ids(tokenizer: Any, words: Sequence[str], name: str) -> tuple[int, ...]:
    """The tokens of one or two words. Raises InputError for a word that is not one token."""
    if len(words) not in (1, 2):
        raise InputError(f"teacher.answers: give the words for yes and no, not {list(words)}")
    known = tokenizer.get_vocab()
    found: list[int] = []
    for word in words:
        ids = [known[word]] if word in known else _ids(tokenizer, word)
        if len(ids) != 1:
            raise InputError(
                f"model {name!r}: its answer {word!r} is {len(ids)} tokens, and must be one: give "
                "teacher.answers, such as [yes, no]"
            )
        found += ids
    return tuple(found)
