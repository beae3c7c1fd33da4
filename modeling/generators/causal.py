"""Query generation by few-shot prompting of any causal language model.

For speed the examples, which all prompts share, are encoded once, each passage once for all its
queries, and rows that have ended leave the batch. Where a model's cache does not allow that, whole
prompts are read by transformers' own loop.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from inspect import signature
from itertools import takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import GenerationConfig, LogitsProcessorList

from tercet.core.schema import InputError
from tercet.modeling.batching import cut_texts
from tercet.modeling.generators.base import Sampling
from tercet.modeling.generators.language_model import load_language_model
from tercet.modeling.generators.prefix import CACHE, check_prompt, prefix_room, shots
from tercet.modeling.generators.prompts import DEFAULT_STYLE
from tercet.modeling.generators.seq2seq import TorchSampler
from tercet.modeling.hub import loading, tell_once
from tercet.modeling.precision import Precision

#: Ended rows are removed once the live ones are at most this part of a batch.
_CROWDED = 0.75


class CausalGenerator(TorchSampler):
    """Any causal language model, prompted with a few passages and a query for each."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        prompt: str = DEFAULT_STYLE.prompt,
        examples: Sequence[tuple[str, str]] = DEFAULT_STYLE.examples,
        **settings: Any,
    ) -> None:
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        tokenizer.padding_side = "left"  # so that all rows' new tokens start together
        super().__init__(model, tokenizer, stop_ids=_line_ends(tokenizer), **settings)
        self._room = prefix_room(model)
        self._show(prompt, examples)

    def _show(self, prompt: str, examples: Sequence[tuple[str, str]]) -> None:
        if prompt.count("{passage}") != 1:
            raise InputError(f"the prompt must hold {{passage}} once: {prompt!r}")
        self._prompt = prompt
        self._prefix: list[int] = self.tokenizer(shots(prompt, examples))["input_ids"]
        self._prefix_cache: Any = None
        self._known = {query for _, query in examples}
        check_prompt(
            self._name,
            self.model,
            [*self._prefix, *self._ids_of([self._prompt_for("")])[0]],
            passage_tokens=self.passage_tokens,
            max_new_tokens=self.sampling.max_new_tokens,
        )

    def shown(
        self, prompt: str, examples: Sequence[tuple[str, str]], *, style: str = ""
    ) -> CausalGenerator:
        """Return the same loaded model with another prompt; `style` is added to its name."""
        other = copy.copy(self)
        other._name = f"{self._name} ({style})" if style else self._name
        other._show(prompt, examples)
        return other

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        gguf_file: str | None = None,
        prompt: str = DEFAULT_STYLE.prompt,
        examples: Sequence[tuple[str, str]] = DEFAULT_STYLE.examples,
        sampling: Sampling | None = None,
        passage_tokens: int = 128,
        batch_size: int = 32,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
    ) -> CausalGenerator:
        """Load a local folder or a Hub name, or the GGUF file of that name in it.

        `prompt` is a template with {passage}, `examples` are (passage, query) pairs. `sampling`
        defaults to 32 new tokens. Raises InputError for a model of another kind.
        """
        name = str(name_or_path)
        with loading(name):
            model, tokenizer, identity = load_language_model(
                name, revision=revision, gguf_file=gguf_file, precision=precision, device=device
            )
            return cls(
                model,
                tokenizer,
                prompt=prompt,
                examples=examples,
                name=name,
                identity=identity,
                sampling=sampling or Sampling(max_new_tokens=32),
                batch_size=batch_size,
                passage_tokens=passage_tokens,
            )

    def _inputs(self, contents: list[str]) -> list[list[int]]:
        passages = cut_texts(self.tokenizer, contents, self.passage_tokens)
        self.counts["cut"] += sum(map(str.__ne__, passages, contents))
        return self._ids_of([self._prompt_for(" ".join(text.split())) for text in passages])

    def _sample(self, ids: list[list[int]], per_passage: int) -> list[str]:
        longest = len(self._prefix) + max(map(len, ids)) + self.sampling.max_new_tokens
        if longest <= self._room:
            return self._sample_cached(ids, per_passage)
        why = (
            f"a sliding window of {self._room} tokens" if self._room else "a cache of another kind"
        )
        tell_once(f"{self._name} has {why}: whole prompts are read for each query, which is slower")
        return self._sample_plainly(ids, per_passage)

    def _sample_plainly(self, ids: list[list[int]], per_passage: int) -> list[str]:
        """As `_sample_cached`, by `generate`: any model, at the price of reading more."""
        inputs = self._padded([self._prefix + row for row in ids for _ in range(per_passage)])
        config = GenerationConfig(
            do_sample=False,  # `Draw` samples
            max_new_tokens=self.sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.stop_ids,
        )
        with torch.inference_mode():
            output = self.model.generate(
                **inputs,
                generation_config=config,
                logits_processor=LogitsProcessorList([self.draw]),
            )
        ends = set(self.stop_ids)
        new = output[:, inputs["input_ids"].shape[1] :].tolist()
        written = [list(takewhile(lambda token: token not in ends, row)) for row in new]
        return self.tokenizer.batch_decode(written, skip_special_tokens=True)

    def _sample_cached(self, ids: list[list[int]], per_passage: int) -> list[str]:
        written: list[list[int]] = [[] for _ in range(len(ids) * per_passage)]
        with torch.inference_mode():
            cache, token, mask = self._read(ids, per_passage)
            rows = torch.arange(len(written), device=mask.device)
            ends = torch.tensor(self.stop_ids, device=mask.device)
            live = torch.ones_like(rows, dtype=torch.bool)
            for _ in range(self.sampling.max_new_tokens):
                if live.sum() <= _CROWDED * len(rows):
                    kept = live.nonzero().squeeze(1)
                    cache.batch_select_indices(kept)
                    rows, token, mask, live = (x[kept] for x in (rows, token, mask, live))
                output = self._forward(self.model, token.unsqueeze(1), mask, cache)
                cache = output[CACHE]
                token = self.draw.tokens(output.logits[:, -1])
                live &= torch.isin(token, ends, invert=True)
                if not live.any():
                    break
                for row, new in zip(rows[live].tolist(), token[live].tolist(), strict=True):
                    written[row].append(new)
                mask = F.pad(mask, (0, 1), value=1)
        return self.tokenizer.batch_decode(written, skip_special_tokens=True)

    def _read(self, ids: list[list[int]], per_passage: int) -> tuple[Any, Tensor, Tensor]:
        """Return a cache of the examples and each row, its last token, and the whole mask.

        All tokens but the last are in the cache. Each passage is encoded once for its queries.
        """
        inputs = self._padded(ids)
        cache, past = self._past(len(ids))
        prefix = inputs["input_ids"].new_ones(len(ids), past)
        mask = torch.cat([prefix, inputs["attention_mask"]], dim=1)
        unread, last = inputs["input_ids"].tensor_split([-1], dim=1)
        if unread.shape[1]:
            cache = self._forward(self.model.base_model, unread, mask[:, :-1], cache)[CACHE]
        if cache is not None:
            cache.batch_repeat_interleave(per_passage)
        token, mask = (x.repeat_interleave(per_passage, dim=0) for x in (last.squeeze(1), mask))
        return cache, token, mask

    def _past(self, rows: int) -> tuple[Any, int]:
        """Return a cache of the examples for `rows` rows and its length; (None, 0) without any."""
        if not self._prefix:
            return None, 0
        if self._prefix_cache is None:
            prefix = torch.tensor([self._prefix], device=self.model.device)
            # The base model suffices: no logits are needed yet.
            read = self._forward(self.model.base_model, prefix, torch.ones_like(prefix), None)
            self._prefix_cache = read[CACHE]
        cache = copy.deepcopy(self._prefix_cache)
        cache.batch_repeat_interleave(rows)
        return cache, len(self._prefix)

    def _forward(self, network: Any, ids: Tensor, mask: Tensor, cache: Any) -> Any:
        """Run `network` on `ids` [rows, tokens] after the cache; `mask` covers all tokens."""
        given = {"input_ids": ids, "attention_mask": mask, "use_cache": True}
        if "position_ids" in signature(network.forward).parameters:
            given["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if cache is not None:
            given[CACHE] = cache
        return network(**given)

    def _prompt_for(self, passage: str) -> str:
        return self._prompt.replace("{passage}", passage)

    def _is_new(self, query: str) -> bool:
        return query not in self._known


def _line_ends(tokenizer: Any) -> list[int]:
    """Return the end token and all tokens with a line break: a query is one line."""
    piece = tokenizer.convert_ids_to_tokens(tokenizer("\n", add_special_tokens=False).input_ids)[-1]
    # Byte-level vocabularies write it Ċ; sentencepiece ones as it is, or as a byte.
    marks = [mark for mark in ("\n", "Ċ", "<0x0A>") if mark in piece]
    ends = {i for text, i in tokenizer.get_vocab().items() if any(m in text for m in marks)}
    return sorted(ends | ({tokenizer.eos_token_id} - {None}))
