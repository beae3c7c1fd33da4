"""Queries written, in tokens a second, beside plain `generate` of transformers.

    python benchmarks/generate.py [PASSAGES]

Gemma-3-270m reads examples before each passage: Tercet reads them once, plain `generate` with each.
Every query has the same number of tokens, so that all write equally much. A T5 of T5-small's shape
with random weights writes by CTranslate2 and by transformers.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from functools import partial

import torch
from beside import Contender, bookmarks, show, take_turns
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from tercet.core.console import console
from tercet.core.schema import Passage
from tercet.modeling import CausalGenerator, CT2Generator, Sampling, Seq2SeqGenerator

GEMMA, GGUF = "models/gemma-3-270m", "gemma-3-270m-q4_k_m.gguf"
VOCABULARY = "models/ms-marco-MiniLM-L12-v2-int8"
PASSAGES, EACH, NEW_TOKENS, ROUNDS = 30, 3, 24, 2
#: Of the T5, which is faster: the passages of a shard.
T5_PASSAGES = 256


def main() -> None:
    """The prompted language model, then the T5."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PASSAGES
    passages = bookmarks()[:count]
    tokens = count * EACH * NEW_TOKENS
    sampling = Sampling(max_new_tokens=NEW_TOKENS)
    title = f"{count} passages, {EACH} queries each"

    gemma = CausalGenerator.from_pretrained(GEMMA, gguf_file=GGUF, sampling=sampling)
    gemma.stop_ids = []  # nothing ends a query early
    peer = "transformers, whole prompts"
    contenders: dict[str, Contender] = {
        peer: lambda: partial(plain, gemma, passages, gemma._prefix),
        "tercet, examples read once": lambda: partial(gemma.generate, passages, EACH, 1),
    }
    show(take_turns(contenders, ROUNDS), f"Gemma, {title}", "tokens", tokens, peers=[peer])
    read = gemma._inputs([passage.contents for passage in passages])
    prefix = len(gemma._prefix)
    share = prefix * count / (prefix * count + sum(map(len, read)))
    console.print(f"examples are {prefix} tokens, {share:.0%} of the tokens of whole prompts")

    passages = bookmarks()[:T5_PASSAGES]
    tokens = len(passages) * EACH * NEW_TOKENS
    title = f"{len(passages)} passages, {EACH} queries each"
    with tempfile.TemporaryDirectory() as folder:
        save_random_t5(folder)
        os.environ["TERCET_CACHE"] = folder  # it is converted for this alone
        load = {"sampling": sampling, "device": "cpu"}
        whole, half = "transformers, fp32", "transformers, bf16"
        full = Seq2SeqGenerator.from_pretrained(folder, precision="fp32", **load)
        short = Seq2SeqGenerator.from_pretrained(folder, precision="bf16", **load)
        int8 = CT2Generator.from_pretrained(folder, **load)
        contenders = {
            whole: lambda: partial(plain, full, passages),
            half: lambda: partial(plain, short, passages),
            "tercet, torch bf16": lambda: partial(short.generate, passages, EACH, 1),
            "tercet, ctranslate2 int8": lambda: partial(int8.generate, passages, EACH, 1),
        }
        turns = take_turns(contenders, ROUNDS)
    show(turns, f"T5-small's shape, {title}", "tokens", tokens, peers=[whole, half])


def plain(
    writer: CausalGenerator | Seq2SeqGenerator,
    passages: Sequence[Passage],
    prefix: Sequence[int] = (),
) -> list[str]:
    """Plain `generate` of the writer's model: whole prompts, in the same order and batches."""
    ids = writer._inputs([passage.contents for passage in passages])
    order = sorted(range(len(ids)), key=lambda i: (-len(ids[i]), ids[i]))
    rows = writer.batch_size // EACH
    texts: list[str] = []
    torch.manual_seed(1)
    for start in range(0, len(order), rows):
        prompts = [[*prefix, *ids[i]] for i in order[start : start + rows]]
        inputs = writer.tokenizer.pad({"input_ids": prompts}, return_tensors="pt")
        with torch.inference_mode():
            output = writer.model.generate(
                input_ids=inputs["input_ids"],
                attention_mask=inputs["attention_mask"],
                do_sample=True,
                top_k=writer.sampling.top_k,
                top_p=writer.sampling.top_p,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                num_return_sequences=EACH,
            )
        new = output[:, inputs["input_ids"].shape[1] if prefix else 0 :]
        texts += writer.tokenizer.batch_decode(new, skip_special_tokens=True)
    return texts


def save_random_t5(folder: str) -> None:
    """A T5 of T5-small's shape whose end token is never drawn, and a tokenizer for it."""
    torch.manual_seed(13)
    words = AutoTokenizer.from_pretrained(VOCABULARY).get_vocab()
    tokenizer = Tokenizer(models.WordPiece(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    end = ("[SEP]", words["[SEP]"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A [SEP]", special_tokens=[end]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", eos_token="[SEP]", unk_token="[UNK]"
    ).save_pretrained(folder)
    config = T5Config(
        vocab_size=32_128,
        d_model=512,
        d_kv=64,
        d_ff=2048,
        num_layers=6,
        num_heads=8,
        pad_token_id=words["[PAD]"],
        eos_token_id=words["[SEP]"],
        decoder_start_token_id=words["[PAD]"],
    )
    model = T5ForConditionalGeneration(config)
    model.get_input_embeddings().weight.data[words["[SEP]"]] = 0.0  # far from the 25 likeliest
    model.save_pretrained(folder)


if __name__ == "__main__":
    main()
