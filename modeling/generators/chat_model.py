"""A local language model that answers in a chat, streaming its answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from transformers import RepetitionPenaltyLogitsProcessor

from tercet.core.schema import InputError
from tercet.modeling.generators.base import Sampling
from tercet.modeling.generators.language_model import load_language_model
from tercet.modeling.generators.prefix import CACHE
from tercet.modeling.generators.seq2seq import Draw
from tercet.modeling.hub import loading
from tercet.modeling.precision import Precision

#: Repetition penalty on the answer's tokens: small models tend to loop.
PENALTY = 1.15
_HALF = "\ufffd"  # decodes from a character whose last bytes are still missing


class LocalChat:
    """Any causal language model, by its chat template; without one it continues "Answer:".

    A model without a template was not trained to stop: its answer ends with the line.
    """

    def __init__(
        self, model: Any, tokenizer: Any, *, max_new_tokens: int = 256, temperature: float = 0.0
    ) -> None:
        """At `temperature` 0 decoding is greedy, so answers are reproducible.

        `PENALTY` applies to the answer's tokens only: the passages' words should be repeated.
        """
        self.model, self.tokenizer = model.requires_grad_(False), tokenizer
        self.max_new_tokens = max_new_tokens
        self._repeated = RepetitionPenaltyLogitsProcessor(PENALTY)
        self._draw = (
            Draw(Sampling(temperature=temperature), model.name_or_path) if temperature else None
        )
        added = tokenizer.added_tokens_decoder.values()
        special = {*tokenizer.all_special_tokens, *(t.content for t in added if t.special)}
        self._special = sorted(special, key=len, reverse=True)
        of_model = model.generation_config.eos_token_id
        ends = of_model if isinstance(of_model, list) else [of_model]
        self._ends = {*ends, tokenizer.eos_token_id} - {None}
        self._last_alone = (
            {"logits_to_keep": 1} if "logits_to_keep" in signature(model.forward).parameters else {}
        )

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        gguf_file: str | None = None,
        max_new_tokens: int = 256,
        temperature: float = 0.0,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
    ) -> LocalChat:
        """Load a folder or a Hub name, or the GGUF file of that name in it.

        Raises InputError for a model of another kind.
        """
        name = str(name_or_path)
        with loading(name):
            model, tokenizer, _ = load_language_model(
                name, gguf_file=gguf_file, precision=precision, device=device
            )
            return cls(model, tokenizer, max_new_tokens=max_new_tokens, temperature=temperature)

    def stream(self, messages: Sequence[tuple[str, str]]) -> Iterator[str]:
        """Yield pieces of the answer to (role, text) pairs: "system", "user", "assistant".

        Raises InputError for more tokens than the model's context.
        """
        new, cache = self._read(messages), None
        written: list[int] = []
        said = text = ""
        for _ in range(self.max_new_tokens):
            token, cache = self._next(new, cache, written)
            if token in self._ends:
                break
            written, new = [*written, token], [token]
            text, ended = self._answer(written)
            if len(text) > len(said) and not text.endswith(_HALF):
                yield text[len(said) :]
                said = text
            if ended:
                break
        if len(text) > len(said):
            yield text[len(said) :]

    def prompt(self, messages: Sequence[tuple[str, str]]) -> str:
        """Return the model's prompt. Messages cannot inject the special tokens of a chat.

        System messages precede the last question, as not every template has a system role.
        """
        instructions = "\n\n".join(self._plain(text) for role, text in messages if role == "system")
        turns = [(role, self._plain(text)) for role, text in messages if role != "system"]
        turns[-1] = turns[-1][0], f"{instructions}\n\n{turns[-1][1]}".strip()
        if self.tokenizer.chat_template:
            conversation = [{"role": role, "content": text} for role, text in turns]
            return str(
                self.tokenizer.apply_chat_template(
                    conversation, add_generation_prompt=True, tokenize=False
                )
            )
        begins = {"user": "", "assistant": "Answer: "}
        return "\n\n".join(begins[role] + text for role, text in turns) + "\nAnswer:"

    def _plain(self, text: str) -> str:
        """Break up special tokens in a text, which would begin or end turns."""
        for token in self._special:
            text = text.replace(token, f"{token[0]} {token[1:]}")
        return text

    def _read(self, messages: Sequence[tuple[str, str]]) -> list[int]:
        # A template adds its own beginning-of-text token.
        whole = self.tokenizer.chat_template is None
        ids: list[int] = self.tokenizer(
            self.prompt(messages), add_special_tokens=whole, verbose=False
        )["input_ids"]
        most = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if most and len(ids) + self.max_new_tokens > most:
            raise InputError(
                f"{len(ids):,} tokens to read and {self.max_new_tokens:,} to write are more than "
                f"the model's {most:,}: lower chat.passages, chat.passage_characters or "
                "chat.max_new_tokens"
            )
        return ids

    @torch.inference_mode()  # here, as a generator would leave it on for its caller
    def _next(self, ids: list[int], cache: Any, written: list[int]) -> tuple[int, Any]:
        """Return the token after `ids`, which follow the cache, and the extended cache."""
        given = {CACHE: cache} if cache is not None else {}
        inputs = torch.tensor([ids], device=self.model.device)
        output = self.model(input_ids=inputs, use_cache=True, **given, **self._last_alone)
        logits = output.logits[:, -1]
        if written:
            said = torch.tensor([written], device=logits.device)
            logits = self._repeated(said, logits)
        token = self._draw.tokens(logits) if self._draw else logits.argmax(dim=-1)
        return int(token), output[CACHE]

    def _answer(self, written: list[int]) -> tuple[str, bool]:
        """Decode the answer so far, and return whether it is complete."""
        text = self.tokenizer.decode(
            written, skip_special_tokens=True, clean_up_tokenization_spaces=False
        ).lstrip()
        if self.tokenizer.chat_template:
            return text, False
        line, newline, _ = text.partition("\n")
        return line, bool(newline)
