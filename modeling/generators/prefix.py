"""How far a language model can go on from a cached prefix, and how long its prompts may be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.generation.utils import ALL_CACHE_NAMES

from tercet.core.schema import InputError
from tercet.modeling.batching import has_position_table, position_limit
from tercet.modeling.hub import adapter_base, load_tokenizer, loading, quiet, resolve

#: The argument of a model's cache, which transformers 5.24 renamed.
CACHE = "cache" if "cache" in ALL_CACHE_NAMES else "past_key_values"
_ANY_LENGTH = 1_000_000_000
#: Tokens of a passage that a generator of each kind reads, unless a recipe says otherwise.
PASSAGE_TOKENS = {"causal": 128, "seq2seq": 320}


def prefix_room(model: Any) -> int:
    """Most tokens, prefix included, that reading on from a cached prefix is right for.

    0 for a model whose state of a prefix cannot be kept and shared: linear attention, state spaces.
    Beyond a sliding window the padding between a prefix and its passages would take places in it.
    """
    ids = torch.zeros((1, 2), dtype=torch.int64, device=model.device)
    try:
        with torch.inference_mode():
            cache = model.base_model(input_ids=ids, use_cache=True).get(CACHE)
    except (AttributeError, RuntimeError, TypeError, ValueError):
        return 0
    layers = getattr(cache, "layers", None) or []
    if not layers or any(type(x) not in (DynamicLayer, DynamicSlidingWindowLayer) for x in layers):
        return 0
    windows = [x.sliding_window for x in layers if isinstance(x, DynamicSlidingWindowLayer)]
    return int(min(windows, default=_ANY_LENGTH))


def check_prompt(
    name: str,
    model: Any,
    tokens: Sequence[int],
    *,
    passage_tokens: int,
    max_new_tokens: int,
) -> None:
    """Raise InputError for prompts that go beyond a model's table of positions.

    `tokens` are those of the prompt without a passage; `max_new_tokens` counts where new tokens
    have positions in the same table.
    """
    limit = position_limit(model.config)
    longest = len(tokens) + passage_tokens + max_new_tokens
    if has_position_table(model) and longest > limit:
        raise InputError(
            f"queries.generators: model {name!r} has positions for {limit} tokens, and a prompt of"
            f" {len(tokens)} with {passage_tokens} of a passage and {max_new_tokens} new ones needs"
            f" {longest}: lower passage_tokens, or give fewer examples"
        )


def check_reading(
    kind: str,
    name: str,
    *,
    prompt: str,
    examples: Sequence[tuple[str, str]],
    passage_tokens: int | None,
    max_new_tokens: int,
) -> None:
    """As `check_prompt`, without loading the weights of a model that is "causal" or "seq2seq".

    Raises InputError also for a model of another kind.
    """
    passage = passage_tokens or PASSAGE_TOKENS[kind]
    if kind == "seq2seq":
        model, _ = _empty_model(AutoModelForSeq2SeqLM, name)
        longest = max(passage, max_new_tokens)
        check_prompt(name, model, [], passage_tokens=longest, max_new_tokens=0)
        return
    model, tokenizer = _empty_model(AutoModelForCausalLM, name)
    tokens = tokenizer(shots(prompt, examples) + prompt.replace("{passage}", ""))["input_ids"]
    check_prompt(name, model, tokens, passage_tokens=passage, max_new_tokens=max_new_tokens)


def shots(prompt: str, examples: Sequence[tuple[str, str]]) -> str:
    """The examples as they stand before every passage."""
    filled = ((prompt.replace("{passage}", text), query) for text, query in examples)
    return "".join(f"{before} {query}\n\n" for before, query in filled)


def _empty_model(auto_class: Any, name: str) -> tuple[Any, Any]:
    """Return a model of a folder's or a Hub name's config without weights, and its tokenizer."""
    path = resolve(name).path
    base = adapter_base(name, path)
    with loading(name):
        config = AutoConfig.from_pretrained(base.path if base else path)
        with torch.device("meta"), quiet():
            model = auto_class.from_config(config)
    return model, load_tokenizer(name, path)
