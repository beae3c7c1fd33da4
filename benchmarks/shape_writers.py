"""Tiny writers of queries with random weights, for `shapes.py`, and how they are checked."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from shape_models import DECODERS, T5, TEXTS, adapter, bytes_of, plain, seeded
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from tercet.core.schema import InputError
from tercet.modeling import CausalGenerator, Sampling, Seq2SeqGenerator

_PROMPT, _EXAMPLES = "Text: {passage}\nQuery:", [("Bees find their way.", "bees way")]
_GREEDY = Sampling(top_k=1, max_new_tokens=6)

_WIDTH = {"hidden_size": 32, "num_attention_heads": 4, "intermediate_size": 64, "vocab_size": 400}
_TOKENS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_COMMON = _WIDTH | _TOKENS | {"initializer_range": 0.2, "max_position_embeddings": 512}
_HYBRID = _COMMON | {"num_hidden_layers": 2, "num_key_value_heads": 2}
#: Models that are writers alone: linear attention, convolutions, state spaces, small windows.
_OTHERS: Mapping[str, Mapping[str, Any]] = {
    "qwen3_5_text": _HYBRID
    | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "qwen3_next": _HYBRID
    | {"head_dim": 8, "layer_types": ["linear_attention", "full_attention"]}
    | {"linear_num_key_heads": 2, "linear_num_value_heads": 2}
    | {"linear_key_head_dim": 8, "linear_value_head_dim": 8}
    | {"num_experts": 2, "num_experts_per_tok": 1, "moe_intermediate_size": 32}
    | {"shared_expert_intermediate_size": 32},
    "lfm2": _HYBRID | {"layer_types": ["conv", "full_attention"]},
    "granitemoehybrid": _HYBRID
    | {"layer_types": ["mamba", "attention"], "mamba_n_heads": 4, "mamba_d_head": 16}
    | {"mamba_d_state": 8, "num_local_experts": 2, "num_experts_per_tok": 1}
    | {"shared_intermediate_size": 32},
    "mamba2": {
        **{"hidden_size": 32, "num_hidden_layers": 2, "vocab_size": 400, "state_size": 8},
        **({"num_heads": 8, "head_dim": 8, "n_groups": 2, "initializer_range": 0.2} | _TOKENS),
    },
}
_LENGTHS = {"max_position_embeddings": 512}
_BART = {
    **{"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "vocab_size": 400},
    **{"encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2},
    **{"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 400},
    **(_TOKENS | {"decoder_start_token_id": 2, "forced_eos_token_id": None}),
}


def _causal(model_type: str, **given: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        known = dict(_OTHERS.get(model_type) or DECODERS[model_type])
        if "max_position_embeddings" in known:
            known |= _LENGTHS
        config = CONFIG_MAPPING[model_type](**(known | given))
        seeded(AutoModelForCausalLM, config).save_pretrained(folder)
        bytes_of("<s> $A").save_pretrained(folder)

    return make


def _seq2seq(model_type: str, sizes: Mapping[str, Any]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        config = CONFIG_MAPPING[model_type](**sizes)
        seeded(AutoModelForSeq2SeqLM, config).save_pretrained(folder)
        bytes_of("$A </s>").save_pretrained(folder)

    return make


def _adapted(folder: Path) -> None:
    base = folder.with_name("writer-base")
    _causal("llama")(base)
    adapter(folder, base, of="text-generation")


#: Generators that are read, by name, and their kind.
WRITERS: dict[str, tuple[Callable[[Path], None], str]] = {
    "Llama": (_causal("llama"), "causal"),
    "Qwen 2.5": (_causal("qwen2"), "causal"),
    "Qwen 3": (_causal("qwen3"), "causal"),
    "Mistral": (_causal("mistral"), "causal"),
    "Mistral, a window of 16 tokens": (_causal("mistral", sliding_window=16), "causal"),
    "Gemma 2, a window of 16 tokens": (_causal("gemma2"), "causal"),
    "Gemma 3, a window of 16 tokens": (_causal("gemma3_text"), "causal"),
    "Gemma 3, a window of 512 tokens": (_causal("gemma3_text", sliding_window=512), "causal"),
    "Phi-3": (_causal("phi3"), "causal"),
    "SmolLM3": (_causal("smollm3"), "causal"),
    "OLMo 2": (_causal("olmo2"), "causal"),
    "GPT-2, 512 positions": (_causal("gpt2", n_positions=512), "causal"),
    "OPT": (_causal("opt"), "causal"),
    "GPT-NeoX": (_causal("gpt_neox"), "causal"),
    "BLOOM": (_causal("bloom"), "causal"),
    "Qwen 3.5: linear attention": (_causal("qwen3_5_text"), "causal"),
    "Qwen3-Next: linear attention, experts": (_causal("qwen3_next"), "causal"),
    "LFM 2: convolutions": (_causal("lfm2"), "causal"),
    "Granite 4: Mamba 2 and attention": (_causal("granitemoehybrid"), "causal"),
    "Mamba": (_causal("mamba"), "causal"),
    "Mamba 2": (_causal("mamba2"), "causal"),
    "LoRA adapter over Llama": (_adapted, "causal"),
    "T5": (_seq2seq("t5", T5), "seq2seq"),
    "mT5": (_seq2seq("mt5", T5), "seq2seq"),
    "BART": (_seq2seq("bart", _BART), "seq2seq"),
    "mBART": (_seq2seq("mbart", _BART), "seq2seq"),
}


def _bert(folder: Path) -> None:
    plain(folder, "bert")


#: Generators that are refused: the kind, and what the line has to name.
WRITERS_REFUSED: dict[str, tuple[Callable[[Path], None], str, str]] = {
    "GPT-2, 128 positions": (_causal("gpt2", n_positions=128), "causal", "passage_tokens"),
    "BART, 64 positions": (
        _seq2seq("bart", _BART | {"max_position_embeddings": 64}),
        "seq2seq",
        "passage_tokens",
    ),
    "BERT as a language model": (_bert, "causal", "another kind"),
    "BERT as a sequence to sequence": (_bert, "seq2seq", "BertConfig"),
}


def load(folder: Path, kind: str, **given: Any) -> CausalGenerator | Seq2SeqGenerator:
    """Load a generator of a kind, which takes the likeliest tokens."""
    settings: dict[str, Any] = {"sampling": _GREEDY, "precision": "fp32", "device": "cpu"} | given
    if kind == "seq2seq":
        return Seq2SeqGenerator.from_pretrained(folder, **settings)
    return CausalGenerator.from_pretrained(folder, prompt=_PROMPT, examples=_EXAMPLES, **settings)


def read_writer(make: Callable[[Path], None], kind: str) -> str:
    """Say how a generator is read; raises AssertionError if it writes what `generate` does not."""
    with tempfile.TemporaryDirectory() as place:
        make(Path(place) / "writer")
        generator = load(Path(place) / "writer", kind)
        ids = generator._inputs(list(TEXTS))
        written = generator._sample(ids, 2)
        prefix = generator._prefix if isinstance(generator, CausalGenerator) else []
        for i, row in enumerate(ids):
            expected = _alone(generator, prefix + row)
            assert written[2 * i : 2 * i + 2] == [expected, expected], (written[2 * i], expected)
        longest = len(prefix) + max(map(len, ids)) + _GREEDY.max_new_tokens
        plainly = kind == "causal" and longest > generator._room
    return "whole prompts" if plainly else "a prefix read once" if prefix else "as it is"


def _alone(generator: Any, row: list[int]) -> str:
    """What transformers' own loop writes for one input."""
    inputs = torch.tensor([row])
    output = generator.model.generate(
        input_ids=inputs,
        attention_mask=torch.ones_like(inputs),
        do_sample=False,
        max_new_tokens=_GREEDY.max_new_tokens,
        eos_token_id=generator.stop_ids,
        pad_token_id=generator.tokenizer.pad_token_id,
    )
    new = output[0] if isinstance(generator, Seq2SeqGenerator) else output[0, len(row) :]
    tokens = [token for token in new.tolist() if token not in generator.stop_ids]
    return generator.tokenizer.decode(tokens, skip_special_tokens=True)


def refuse_writer(make: Callable[[Path], None], kind: str) -> str | None:
    """The line with which a generator is refused; None if it is read."""
    with tempfile.TemporaryDirectory() as place:
        make(Path(place) / "writer")
        try:
            load(Path(place) / "writer", kind)
        except InputError as error:
            return str(error).replace(place, "").replace("|", "\\|")
    return None
