"""T5 query generators on CTranslate2: int8 on a CPU, float16 on a GPU, several times as fast."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from tercet.core.borders import border
from tercet.core.cache import cache_folder, make_once
from tercet.core.console import console
from tercet.core.extras import missing
from tercet.core.files import digest
from tercet.core.schema import InputError
from tercet.modeling.generators.base import Sampler, Sampling
from tercet.modeling.hub import load_model, load_tokenizer, loading, resolve
from tercet.modeling.precision import default_device

try:
    import ctranslate2
    from ctranslate2.converters import TransformersConverter
    from ctranslate2.converters.transformers import _MODEL_LOADERS
except ImportError:
    ctranslate2, TransformersConverter, _MODEL_LOADERS = None, object, {}

_Engine = Literal["auto", "torch", "ctranslate2"]

_KINDS = ("T5Config", "MT5Config", "UMT5Config")
_COMPUTE = {"cpu": "int8", "cuda": "float16"}
#: Streams that share a call's batches; on a CPU at most one a core runs at a time.
_STREAMS = {"cpu": 8, "cuda": 1}


class NotConverted(InputError):
    """A model that CTranslate2 does not run."""


class CT2Generator(Sampler):
    """A T5 or mT5 trained to write queries, like `Seq2SeqGenerator`, run by CTranslate2."""

    def __init__(self, folder: Path, tokenizer: Any, *, device: torch.device, **settings: Any):
        super().__init__(tokenizer, **settings)
        self._folder = folder
        self._device = device

    @classmethod
    def from_pretrained(
        cls,
        name_or_path: str | Path,
        *,
        revision: str | None = None,
        sampling: Sampling | None = None,
        passage_tokens: int = 320,
        batch_size: int = 32,
        device: torch.device | str | None = None,
    ) -> CT2Generator:
        """Load a local folder or a Hub name; the conversion is cached by the model's content.

        Raises NotConverted for a model that CTranslate2 does not run, and InputError if it is not
        installed.
        """
        if ctranslate2 is None:
            raise missing("ctranslate2", "ct2")
        name = str(name_or_path)
        place = torch.device(device or default_device())
        model = resolve(name, revision)
        return cls(
            _converted(name, model.path, model.identity, _COMPUTE[_kind(place)]),
            load_tokenizer(name, model.path),
            device=place,
            name=name,
            identity=model.identity,
            sampling=sampling or Sampling(),
            batch_size=batch_size,
            passage_tokens=passage_tokens,
        )

    @property
    def streams(self) -> int:
        """Number of streams that a call of `generate` divides its batches among."""
        return _STREAMS[_kind(self._device)]

    def _inputs(self, contents: list[str]) -> list[list[int]]:
        return self.cut_ids(contents)

    def _written(
        self, batches: list[list[list[int]]], per_passage: int, seed: int
    ) -> list[list[str]]:
        # Small matrix products gain little from a second thread: one thread a worker is fastest.
        # A batch's queries depend on its stream only, not on how many run at a time.
        device, cores = _kind(self._device), torch.get_num_threads()
        streams = _STREAMS[device]
        ctranslate2.set_random_seed(seed % 2**32)
        found: list[list[str]] = [[] for _ in batches]

        def write(stream: int) -> None:
            # A translator reads the seed at its first draw only, so each stream has its own.
            with border(f"CTranslate2 does not read {self._folder}", ": remove that folder"):
                translator = ctranslate2.Translator(
                    str(self._folder),
                    device=device,
                    device_index=self._device.index or 0,
                    compute_type=_COMPUTE[device],
                    inter_threads=1,
                    intra_threads=max(1, cores // streams),
                )
            for number in range(stream, len(batches), streams):
                found[number] = self._sample(translator, batches[number], per_passage)

        with ThreadPoolExecutor(min(streams, cores)) as workers:
            for _ in workers.map(write, range(streams)):
                pass
        return found

    def _sample(self, translator: Any, ids: list[list[int]], per_passage: int) -> list[str]:
        drawn = per_passage if self.sampling.top_k > 1 else 1  # with top-k 1 all would be equal
        results = translator.translate_batch(
            [self.tokenizer.convert_ids_to_tokens(row) for row in ids],
            beam_size=1,
            num_hypotheses=drawn,
            sampling_topk=self.sampling.top_k,
            sampling_topp=self.sampling.top_p,
            sampling_temperature=self.sampling.temperature,
            max_decoding_length=self.sampling.max_new_tokens,
            max_input_length=0,
        )
        texts = self.tokenizer.batch_decode(
            [
                self.tokenizer.convert_tokens_to_ids(hypothesis)
                for result in results
                for hypothesis in result.hypotheses
            ],
            skip_special_tokens=True,
        )
        return [text for text in texts for _ in range(per_passage // drawn)]


def seq2seq_engine(engine: _Engine) -> Literal["torch", "ctranslate2"]:
    """Return the engine for T5s; "auto" is CTranslate2 if installed and there is no GPU.

    Raises InputError for an unknown engine, or one that is not installed.
    """
    if engine not in get_args(_Engine):
        choices = ", ".join(get_args(_Engine))
        raise InputError(f"engine {engine!r} is unknown: choose one of {choices}")
    if engine == "auto":
        fits = ctranslate2 is not None and default_device().type == "cpu"
        return "ctranslate2" if fits else "torch"
    if engine == "ctranslate2" and ctranslate2 is None:
        raise missing("ctranslate2", "ct2")
    return engine


def runs_on_ct2(path: Path) -> bool:
    """Whether the model in a folder is a T5, which CTranslate2 writes with as torch does."""
    with suppress(InputError), loading(str(path)):
        kind = type(AutoConfig.from_pretrained(path)).__name__
        return kind in _MODEL_LOADERS and kind in _KINDS
    return False


def describe_engine() -> str:
    """Return CTranslate2's version and arithmetic, which its queries depend on."""
    device = _kind(default_device())
    return f"ctranslate2 {ctranslate2.__version__} {_COMPUTE[device]}, {_STREAMS[device]} streams"


def _kind(device: torch.device) -> str:
    """CTranslate2's device: an NVIDIA GPU, or else the CPU."""
    return "cuda" if device.type == "cuda" else "cpu"


class _Converter(TransformersConverter):
    """Loads as `hub.load_model` does: safe files only, all weights, errors in one line."""

    def __init__(self, name: str, path: Path) -> None:
        super().__init__(str(path))
        self._called, self._path = name, path

    def load_model(self, model_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        """Load the folder's model in float32."""
        return load_model(AutoModelForSeq2SeqLM, self._called, self._path, dtype=torch.float32)

    def load_tokenizer(self, tokenizer_class: Any, model_name_or_path: str, **kwargs: Any) -> Any:
        """Load the folder's tokenizer."""
        return load_tokenizer(self._called, self._path)


def _converted(name: str, path: Path, identity: str, compute: str) -> Path:
    """Return the converted model's folder, which is made on first use."""

    def make(folder: Path) -> None:
        console.print(f"  converting {name} to {compute}, once, into {folder.parent}")
        with border(f"model {name!r} is none that CTranslate2 runs", kind=NotConverted):
            _Converter(name, path).convert(str(folder), quantization=compute, force=True)

    key = digest([identity, ctranslate2.__version__, compute])
    return make_once(cache_folder("ctranslate2") / key, make)
