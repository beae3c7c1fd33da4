"""Sampling with transformers, and generators of the T5 kind."""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
)
from transformers.modeling_outputs import BaseModelOutput

from tercet.core.schema import InputError
from tercet.modeling.checks import check_vocabulary
from tercet.modeling.generators.base import Sampler, Sampling
from tercet.modeling.generators.prefix import check_prompt
from tercet.modeling.generators.writing_speed import in_faster_format
from tercet.modeling.hub import load_model, load_tokenizer, loading, resolve
from tercet.modeling.precision import Precision, default_device, name_of

#: Languages with a doc2query mT5; "14langs" covers all of them and English.
_DOC2QUERY = (
    *("14langs", "arabic", "chinese", "dutch", "french", "german", "hindi", "indonesian"),
    *("italian", "japanese", "portuguese", "russian", "spanish", "vietnamese"),
)


def check_doc2query(name: str) -> None:
    """Raise InputError, with the list, for a language without a doc2query model."""
    language = re.fullmatch(r"doc2query/msmarco-(.+)-mt5-base-v1", name)
    if language and language[1] not in _DOC2QUERY:
        raise InputError(
            f"there is no {name}: doc2query's mT5 exist for {', '.join(_DOC2QUERY)}, and for "
            "English there is doc2query/msmarco-t5-base-v1"
        )


class Draw(LogitsProcessor):
    """Samples the next token by temperature, top-k, then top-p, and masks all others.

    The order is transformers' own, but top-p and the draw are restricted to the k tokens: sorting
    a vocabulary of 262,144 tokens, or drawing a random number for each, for every token of every
    row takes longer than a small language model.
    """

    def __init__(self, sampling: Sampling, name: str = "") -> None:
        """`name` is the model's, for a message."""
        self.sampling, self._name = sampling, name

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Return logits [rows, vocabulary], -inf except for the drawn token."""
        drawn = self.tokens(scores).unsqueeze(1)
        return torch.full_like(scores, -torch.inf).scatter(-1, drawn, 0.0)

    def tokens(self, scores: Tensor) -> Tensor:
        """Draw a token [rows] for each row of logits [rows, vocabulary].

        Raises InputError if the best of a row is not finite.
        """
        k = min(self.sampling.top_k, scores.shape[-1])
        best, tokens = scores.topk(k)
        if not best[:, 0].isfinite().all():
            raise InputError(
                f"model {self._name!r} gives tokens a chance that is no number: its weights are "
                "damaged, or need precision fp32"
            )
        chances = (best.float() / self.sampling.temperature).softmax(dim=-1)
        likelier = chances.cumsum(dim=-1) - chances
        place = chances.masked_fill(likelier >= self.sampling.top_p, 0.0).multinomial(1)
        return tokens.gather(-1, place).squeeze(1)


class TorchSampler(Sampler):
    """Samples with transformers; a subclass defines the model's input."""

    def __init__(
        self, model: Any, tokenizer: Any, *, stop_ids: Sequence[int], **settings: Any
    ) -> None:
        super().__init__(tokenizer, **settings)
        self.model = model.requires_grad_(False)
        self.stop_ids = list(stop_ids)
        self.draw = Draw(self.sampling, self.name)

    @property
    def precision(self) -> Precision:
        """The number format of the model."""
        return name_of(self.model.dtype)

    def _written(
        self, batches: list[list[list[int]]], per_passage: int, seed: int
    ) -> Iterator[list[str]]:
        with self._seeded(seed):
            for ids in batches:
                yield self._sample(ids, per_passage)

    @abstractmethod
    def _sample(self, ids: list[list[int]], per_passage: int) -> list[str]:
        """Generate `per_passage` texts for each row, row by row."""

    def _padded(self, ids: list[list[int]]) -> dict[str, Tensor]:
        padded = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        return {key: padded[key] for key in ("input_ids", "attention_mask")}

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        device = self.model.device
        before = torch.mps.get_rng_state() if device.type == "mps" else None
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield
        if before is not None:  # `fork_rng` keeps that of CPUs and of NVIDIA's GPUs alone
            torch.mps.set_rng_state(before)


class Seq2SeqGenerator(TorchSampler):
    """A T5 or mT5 trained to write queries, such as doc2query's; its input is the passage."""

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        sampling: Sampling | None = None,
        passage_tokens: int = 320,
        batch_size: int = 32,
        precision: Precision = "auto",
        device: torch.device | str | None = None,
    ) -> Seq2SeqGenerator:
        """Load a local folder or a Hub name. Raises InputError for a model of another kind."""
        name = str(name_or_path)
        place = torch.device(device or default_device())
        with loading(name):
            folder = resolve(name, revision)
            tokenizer = load_tokenizer(name, folder.path)
            model = in_faster_format(
                lambda dtype: load_model(AutoModelForSeq2SeqLM, name, folder.path, dtype=dtype),
                precision,
                place,
            )
            check_vocabulary(name, model, tokenizer)
            drawn = sampling or Sampling()
            longest = max(passage_tokens, drawn.max_new_tokens)
            check_prompt(name, model, [], passage_tokens=longest, max_new_tokens=0)
            return cls(
                model,
                tokenizer,
                name=name,
                identity=folder.identity,
                sampling=drawn,
                batch_size=batch_size,
                passage_tokens=passage_tokens,
                stop_ids=[tokenizer.eos_token_id],
            )

    def _inputs(self, contents: list[str]) -> list[list[int]]:
        return self.cut_ids(contents)

    def _sample(self, ids: list[list[int]], per_passage: int) -> list[str]:
        config = GenerationConfig(
            do_sample=False,  # `Draw` samples
            max_new_tokens=self.sampling.max_new_tokens,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.stop_ids,
        )
        with torch.inference_mode():
            inputs = self._padded(ids)
            # A passage is encoded once for all its queries.
            states = self.model.get_encoder()(**inputs).last_hidden_state
            output = self.model.generate(
                encoder_outputs=BaseModelOutput(states.repeat_interleave(per_passage, dim=0)),
                attention_mask=inputs["attention_mask"].repeat_interleave(per_passage, dim=0),
                generation_config=config,
                logits_processor=LogitsProcessorList([self.draw]),
            )
        return self.tokenizer.batch_decode(output, skip_special_tokens=True)
