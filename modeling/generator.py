"""The generators: frozen language models that write the queries a passage might answer."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, GenerationConfig

from tercet.modeling.batching import cut_texts
from tercet.modeling.gguf_cache import dequantised
from tercet.modeling.hub import SAFETENSORS, load_model, load_tokenizer, resolve
from tercet.modeling.precision import Precision, default_device, inference_dtype
from tercet.modeling.styles import DEFAULT_STYLE
from tercet.schema import InputError, Passage

_QUOTES = "\"'`“”‘’«»„"


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are drawn: docTTTTTquery's top-k and nucleus sampling, as GPL uses it."""

    top_k: int = 25
    top_p: float = 0.95
    temperature: float = 1.0
    max_new_tokens: int = 64


class _Sampler(ABC):
    """Batches, seeds and tidies; a subclass says what the model reads and writes."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        *,
        name: str,
        identity: str,
        sampling: Sampling,
        batch_size: int,
        passage_tokens: int,
        stop_ids: Sequence[int],
    ) -> None:
        self.model = model.requires_grad_(False)
        self.tokenizer = tokenizer
        self.identity = identity
        self.sampling = sampling
        self.batch_size = batch_size
        self.passage_tokens = passage_tokens
        self.stop_ids = list(stop_ids)
        self._name = name

    @property
    def name(self) -> str:
        """The name or path that it was loaded from."""
        return self._name

    def generate(self, passages: Sequence[Passage], per_passage: int, seed: int) -> list[list[str]]:
        """Up to `per_passage` different queries for each passage, in the order given.

        Equal arguments give equal queries, and so do the same passages in another order; the
        caller's random state is left alone. A passage may get fewer: empty and repeated queries
        are dropped. `batch_size` counts queries written at once.
        """
        if per_passage < 1:
            raise InputError(f"queries per passage must be at least 1, not {per_passage}")
        ids = self._inputs([passage.contents for passage in passages])
        # By length for little padding, then by content so that the given order does not matter.
        order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), ids[i]))
        queries: list[list[str]] = [[] for _ in passages]
        rows = max(1, self.batch_size // per_passage)
        with self._seeded(seed):
            for start in range(0, len(order), rows):
                batch = order[start : start + rows]
                texts = self._sample([ids[i] for i in batch], per_passage)
                for row, i in enumerate(batch):
                    written = texts[row * per_passage : (row + 1) * per_passage]
                    tidy = dict.fromkeys(_tidy(text) for text in written)
                    queries[i] = [query for query in tidy if query and self._is_new(query)]
        return queries

    @abstractmethod
    def _inputs(self, contents: list[str]) -> list[list[int]]:
        """Token ids that the model reads for each passage."""

    def _is_new(self, query: str) -> bool:
        return True

    def _sample(self, ids: list[list[int]], per_passage: int) -> list[str]:
        config = GenerationConfig(
            do_sample=True,
            top_k=self.sampling.top_k,
            top_p=self.sampling.top_p,
            temperature=self.sampling.temperature,
            max_new_tokens=self.sampling.max_new_tokens,
            num_return_sequences=per_passage,
            pad_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.stop_ids,
        )
        with torch.inference_mode():
            inputs = self._read(ids, per_passage)
            output = self.model.generate(**inputs, generation_config=config)
        read = 0 if self.model.config.is_encoder_decoder else inputs["input_ids"].shape[1]
        return self.tokenizer.batch_decode(output[:, read:], skip_special_tokens=True)

    def _read(self, ids: list[list[int]], per_passage: int) -> dict[str, Any]:
        """What `generate` is given for a batch of `_inputs`."""
        padded = self.tokenizer.pad({"input_ids": ids}, return_tensors="pt").to(self.model.device)
        return {key: padded[key] for key in ("input_ids", "attention_mask")}

    @contextmanager
    def _seeded(self, seed: int) -> Iterator[None]:
        device = self.model.device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            yield


class Seq2SeqGenerator(_Sampler):
    """A T5 or mT5 trained to write queries, such as doc2query's: it reads the bare passage."""

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
        """Load a local folder or a Hub name; raises InputError if it is no such model."""
        name = str(name_or_path)
        place = torch.device(device or default_device())
        folder = resolve(name, revision)
        tokenizer = load_tokenizer(name, folder.path)
        dtype = inference_dtype(precision, place)
        model = load_model(AutoModelForSeq2SeqLM, name, folder.path, dtype=dtype)
        return cls(
            model.to(place),
            tokenizer,
            name=name,
            identity=folder.identity,
            sampling=sampling or Sampling(),
            batch_size=batch_size,
            passage_tokens=passage_tokens,
            stop_ids=[tokenizer.eos_token_id],
        )

    def _inputs(self, contents: list[str]) -> list[list[int]]:
        if not contents:
            return []
        return self.tokenizer(contents, truncation=True, max_length=self.passage_tokens)[
            "input_ids"
        ]


class CausalGenerator(_Sampler):
    """Any causal language model, shown a few passages with a query each."""

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
        tokenizer.padding_side = "left"  # so that every row's new tokens begin together
        super().__init__(model, tokenizer, stop_ids=_line_ends(tokenizer), **settings)
        self._show(prompt, examples)

    def _show(self, prompt: str, examples: Sequence[tuple[str, str]]) -> None:
        if prompt.count("{passage}") != 1:
            raise InputError(f"the prompt must hold {{passage}} once: {prompt!r}")
        self._prompt = prompt
        shots = "".join(f"{self._asked(text)} {query}\n\n" for text, query in examples)
        self._prefix: list[int] = self.tokenizer(shots)["input_ids"]
        self._prefix_cache: Any = None
        self._known = {query for _, query in examples}

    def shown(
        self, prompt: str, examples: Sequence[tuple[str, str]], *, style: str = ""
    ) -> CausalGenerator:
        """The same model, not loaded again, shown something else; `style` is added to its name."""
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
        defaults to 32 new tokens. Raises InputError if it is no such model.
        """
        name = str(name_or_path)
        place = torch.device(device or default_device())
        folder = resolve(name, revision, (gguf_file,) if gguf_file else SAFETENSORS)
        path = dequantised(name, folder.path / gguf_file) if gguf_file else folder.path
        dtype = inference_dtype(precision, place)
        model = load_model(AutoModelForCausalLM, name, path, dtype=dtype)
        return cls(
            model.to(place),
            load_tokenizer(name, path),
            prompt=prompt,
            examples=examples,
            name=name,
            identity=folder.identity,
            sampling=sampling or Sampling(max_new_tokens=32),
            batch_size=batch_size,
            passage_tokens=passage_tokens,
        )

    def _inputs(self, contents: list[str]) -> list[list[int]]:
        passages = cut_texts(self.tokenizer, contents, self.passage_tokens)
        asked = [self._asked(" ".join(text.split())) for text in passages]
        return self.tokenizer(asked, add_special_tokens=False)["input_ids"] if asked else []

    def _read(self, ids: list[list[int]], per_passage: int) -> dict[str, Any]:
        """The batch behind the examples, which are longer than a passage and are read only once."""
        inputs = super()._read(ids, per_passage)
        if not self._prefix:
            return inputs
        prefix = torch.tensor([self._prefix], device=self.model.device)
        if self._prefix_cache is None:
            self._prefix_cache = self.model(input_ids=prefix, use_cache=True).past_key_values
        cache = copy.deepcopy(self._prefix_cache)
        cache.batch_repeat_interleave(len(ids) * per_passage)
        prefix = prefix.expand(len(ids), -1)
        return {
            "input_ids": torch.cat([prefix, inputs["input_ids"]], dim=1),
            "attention_mask": torch.cat([torch.ones_like(prefix), inputs["attention_mask"]], dim=1),
            "past_key_values": cache,
        }

    def _asked(self, passage: str) -> str:
        return self._prompt.replace("{passage}", passage)

    def _is_new(self, query: str) -> bool:
        return query not in self._known


def _tidy(text: str) -> str:
    """The first line, without quotation marks around it."""
    line = text.partition("\n")[0].strip()
    if len(line) > 1 and line[0] in _QUOTES and line[-1] in _QUOTES:
        line = line[1:-1].strip()
    return line


def _line_ends(tokenizer: Any) -> list[int]:
    """The end token and every token with a line break: nothing after one is read."""
    piece = tokenizer.convert_ids_to_tokens(tokenizer("\n", add_special_tokens=False).input_ids)[-1]
    # Byte-level vocabularies spell it Ċ; sentencepiece ones as it is, or as a byte.
    marks = [mark for mark in ("\n", "Ċ", "<0x0A>") if mark in piece]
    ends = {i for text, i in tokenizer.get_vocab().items() if any(m in text for m in marks)}
    return sorted(ends | ({tokenizer.eos_token_id} - {None}))
