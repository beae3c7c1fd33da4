"""Tiny models with random weights, of the shapes that users name: for `shapes.py` and tests.

Each is made and saved by transformers and sentence-transformers themselves.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Dense
from sentence_transformers.sentence_transformer.modules import (
    Dropout,
    LayerNorm,
    Normalize,
    Pooling,
    StaticEmbedding,
    Transformer,
)
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    AutoModel,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
    XLNetConfig,
    XLNetModel,
)

TEXTS = (
    "The keeper of a lighthouse trims the wick and winds the clockwork every evening.",
    "An old orchard gives small apples, which keep until spring in a cool cellar.",
    "Bees find their way back by the sun and by what they remember of the ground.",
    "The glacier has shrunk by a third, and the lake below it grows every summer.",
    "Who mends the nets when the boats are out?",
    "A bridge of ropes hangs over the gorge; in wind nobody crosses it.",
    "how long do apples keep",
    "bees and the sun",
)
WIDTH, VOCABULARY = 32, 400
#: A folder to write a shape into.
Maker = Callable[[Path], None]


# ── tokenizers ────────────────────────────────────────────────────────────────────────────────────


def wordpiece(**given: Any) -> PreTrainedTokenizerFast:
    """BERT's: [CLS] before a text and [SEP] after it."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=given.pop("lowercase", True))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=VOCABULARY, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, *map(str.lower, TEXTS)], trainer)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        **{f"{name}_token": token for name, token in names.items()},
        **({"model_max_length": 64} | given),
    )


def bytes_of(template: str, **given: Any) -> PreTrainedTokenizerFast:
    """A byte-level one, with <s> 0, <pad> 1 and </s> 2 where the template has them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text + "\n" for text in TEXTS], trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    names = {"bos": "<s>", "pad": "<pad>", "eos": "</s>", "unk": "<unk>"}
    if given.pop("without_pad", False):
        del names["pad"]
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in names.items()},
        **({"model_max_length": 64} | given),
    )


def _roberta() -> PreTrainedTokenizerFast:
    tokenizer = bytes_of("<s> $A </s>")
    tokenizer.cls_token, tokenizer.sep_token = "<s>", "</s>"
    return tokenizer


def _xlnet() -> PreTrainedTokenizerFast:
    tokenizer = bytes_of("$A </s> <s>", padding_side="left")
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A:0 </s>:0 <s>:2", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    return tokenizer


# ── transformers ──────────────────────────────────────────────────────────────────────────────────

_SMALL = {
    "hidden_size": WIDTH,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": VOCABULARY,
    "initializer_range": 0.2,  # the usual 0.02 would make all texts nearly equal
}
_BERT = _SMALL | {"max_position_embeddings": 64, "pad_token_id": 0}
_BYTES = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_ROBERTA = _SMALL | _BYTES | {"max_position_embeddings": 66}
_DECODER = _SMALL | _BYTES | {"num_key_value_heads": 2, "max_position_embeddings": 128}
_HEADS = {"head_dim": 8}
#: model_type -> its tiny config, beyond which everything is the library's default.
ENCODERS: Mapping[str, Mapping[str, Any]] = {
    "bert": _BERT,
    "albert": _BERT | {"embedding_size": 16},
    "electra": _BERT | {"embedding_size": 16},
    "ernie": _BERT,
    "convbert": _BERT | {"embedding_size": WIDTH},
    "mobilebert": _BERT
    | {"embedding_size": 16, "intra_bottleneck_size": 16, "true_hidden_size": 16},
    "nystromformer": _BERT | {"num_landmarks": 64, "segment_means_seq_len": 64},
    "roformer": _BERT | {"embedding_size": WIDTH},
    "squeezebert": _BERT | {"embedding_size": WIDTH},
    "megatron-bert": _BERT,
    "deberta-v2": _BERT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
    "big_bird": _BERT | {"attention_type": "original_full"},
    "distilbert": {
        **{"dim": WIDTH, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": VOCABULARY},
        **{"initializer_range": 0.2, "max_position_embeddings": 64},
    },
    "modernbert": _BERT
    | {"cls_token_id": 2, "sep_token_id": 3, "bos_token_id": 2, "eos_token_id": 3}
    | {"local_attention": 8, "global_attn_every_n_layers": 2, "initializer_cutoff_factor": 2.0},
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "xlm-roberta-xl": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": _ROBERTA,
    "data2vec-text": _ROBERTA,
    "longformer": _ROBERTA | {"attention_window": [8, 8]},
}
_GEMMA = _DECODER | _HEADS | {"query_pre_attn_scalar": 8, "sliding_window": 16}
DECODERS: Mapping[str, Mapping[str, Any]] = {
    "llama": _DECODER,
    "mistral": _DECODER | {"sliding_window": None},
    "qwen2": _DECODER,
    "qwen3": _DECODER | _HEADS,
    "gemma": _DECODER | _HEADS,
    "gemma2": _GEMMA,
    "gemma3_text": _GEMMA,
    "phi3": _DECODER,
    "olmo2": _DECODER,
    "smollm3": _DECODER,
    "granite": _DECODER,
    "stablelm": _DECODER,
    "gpt_neox": _DECODER,
    "bloom": {
        **{"hidden_size": WIDTH, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY},
        **({"initializer_range": 0.2} | _BYTES),
    },
    "gpt2": {
        **{"n_embd": WIDTH, "n_layer": 2, "n_head": 4, "vocab_size": VOCABULARY},
        **({"initializer_range": 0.2, "n_positions": 128} | _BYTES),
    },
    "opt": _DECODER | {"ffn_dim": 64, "word_embed_proj_dim": WIDTH},
    "mamba": {
        **{"hidden_size": WIDTH, "num_hidden_layers": 2, "vocab_size": VOCABULARY},
        **({"state_size": 4, "initializer_range": 0.2} | _BYTES),
    },
}
T5 = {"vocab_size": VOCABULARY, "d_model": WIDTH, "d_kv": 8, "d_ff": 64, "num_layers": 2} | {
    **{"num_heads": 4, "pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1},
}


def seeded(kind: type[Any] | Any, config: Any, seed: int = 0) -> Any:
    """A model of a config with random weights of its own."""
    make = getattr(kind, "from_config", None) or kind
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return make(config)


def plain(
    folder: Path, model_type: str, tokenizer: Any = None, seed: int = 0, **given: Any
) -> Path:
    """Write a transformers folder without sentence-transformers' files."""
    known = ENCODERS.get(model_type) or DECODERS[model_type]
    model = seeded(AutoModel, CONFIG_MAPPING[model_type](**(dict(known) | given)))
    if tokenizer is None:
        if model_type in DECODERS:
            tokenizer = bytes_of("$A </s>", padding_side="left")
        else:
            tokenizer = _roberta() if known.get("pad_token_id") == 1 else wordpiece()
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def plain_t5(folder: Path, model_type: str = "t5") -> Path:
    """Write a whole T5, mT5 or umT5, decoder included."""
    config = CONFIG_MAPPING[model_type](**T5)
    kind = {T5Config: T5ForConditionalGeneration}.get(type(config))
    if kind is None:
        from transformers import AutoModelForSeq2SeqLM as kind
    seeded(kind, config).save_pretrained(folder)
    bytes_of("$A </s>").save_pretrained(folder)
    return folder


def plain_xlnet(folder: Path) -> Path:
    """Write an XLNet: it pads on the left, has token types and no position table."""
    config = XLNetConfig(
        vocab_size=VOCABULARY, d_model=WIDTH, n_layer=2, n_head=4, d_inner=64, initializer_range=0.2
    )
    seeded(XLNetModel, config).save_pretrained(folder)
    _xlnet().save_pretrained(folder)
    return folder


# ── sentence-transformers ─────────────────────────────────────────────────────────────────────────


def saved(
    folder: Path,
    source: Path,
    pooling: str | Sequence[str] = "mean",
    *layers: nn.Module,
    include_prompt: bool = True,
    transformer: Mapping[str, Any] | None = None,
    **given: Any,
) -> None:
    """Let sentence-transformers save a transformers folder with its pooling and layers."""
    first = Transformer(str(source), **(transformer or {}))
    width = first.get_embedding_dimension()
    modules = [first, Pooling(width, pooling, include_prompt=include_prompt), *layers]
    SentenceTransformer(modules=modules, device="cpu", **given).save(str(folder))


def dense(width: int, out: int, activation: nn.Module | None = None, **given: Any) -> Dense:
    """A Dense module with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(width + out)
        return Dense(width, out, activation_function=activation or nn.Identity(), **given)


def norm(width: int) -> LayerNorm:
    """A LayerNorm whose weights do something."""
    module = LayerNorm(width)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(width)
        module.norm.weight.normal_(1, 0.2)
        module.norm.bias.normal_(0, 0.2)
    return module


def static(folder: Path, *layers: nn.Module, **given: Any) -> None:
    """Let sentence-transformers save a table of token vectors."""
    table = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0))
    first = StaticEmbedding(wordpiece().backend_tokenizer, embedding_weights=table.numpy())
    SentenceTransformer(modules=[first, *layers], device="cpu", **given).save(str(folder))


def changed(folder: Path, file: str, **keys: Any) -> None:
    """Set keys of a JSON file of a folder."""
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | keys))


def adapter(folder: Path, base: Path, *, of: str = "feature-extraction") -> Path:
    """Write a LoRA adapter that does something, beside the base's tokenizer."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    kind = AutoModel if of == "feature-extraction" else AutoModelForCausalLM
    model = kind.from_pretrained(base)
    with torch.random.fork_rng():
        torch.manual_seed(7)
        adapted = get_peft_model(model, LoraConfig(r=2, target_modules="all-linear"))
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(weight, std=0.2)
    adapted.save_pretrained(folder)
    AutoTokenizer.from_pretrained(base).save_pretrained(folder)
    return folder


_PROMPTS = {"query": "find what answers: ", "document": "text: "}


def _adapter_folder(folder: Path, model_type: str, pooling: str) -> None:
    base = plain(folder.with_name(f"{folder.name}-base"), model_type)
    beside = folder.with_name(f"{folder.name}-whole")
    saved(beside, base, pooling)
    adapter(folder, base)
    for name in ("modules.json", "1_Pooling", "sentence_bert_config.json"):
        copy = shutil.copytree if (beside / name).is_dir() else shutil.copyfile
        copy(beside / name, folder / name)


def _in_a_folder_of_its_own(folder: Path) -> None:
    saved(folder, _source(folder, "bert"))
    inner = folder / "0_Transformer"
    inner.mkdir()
    kept = ("modules.json", "config_sentence_transformers.json", "README.md")
    for file in [file for file in folder.iterdir() if file.is_file() and file.name not in kept]:
        file.rename(inner / file.name)
    modules = json.loads((folder / "modules.json").read_text())
    modules[0]["path"] = inner.name
    (folder / "modules.json").write_text(json.dumps(modules))


def _older_name(folder: Path) -> None:
    saved(folder, _source(folder, "distilbert"))
    (folder / "sentence_bert_config.json").unlink()
    changed(folder, "sentence_distilbert_config.json", max_seq_length=12, do_lower_case=False)


def _older_weights(folder: Path) -> None:
    saved(folder, _source(folder, "bert"), "mean", dense(WIDTH, 8))
    for file in (folder / "model.safetensors", folder / "2_Dense" / "model.safetensors"):
        torch.save(load_file(file), file.with_name("pytorch_model.bin"))
        file.unlink()


def _model2vec(folder: Path) -> None:
    static(folder, Normalize())
    random = torch.Generator().manual_seed(1)
    save_file(
        {
            "embeddings": torch.randn(50, WIDTH, generator=random),
            "mapping": torch.randint(0, 50, (VOCABULARY,), generator=random),
            "weights": torch.rand(VOCABULARY, generator=random),
        },
        folder / "model.safetensors",
    )


def _source(folder: Path, model_type: str, **given: Any) -> Path:
    """A plain folder beside `folder` to make it of."""
    return plain(folder.with_name(f"{folder.name}-plain"), model_type, **given)


def _of(
    model_type: str, pooling: str | Sequence[str] = "mean", *layers: nn.Module, **given: Any
) -> Maker:
    source = given.pop("source", {})
    return lambda folder: saved(
        folder, _source(folder, model_type, **source), pooling, *layers, **given
    )


def _t5(model_type: str = "t5", *layers: nn.Module, **given: Any) -> Maker:
    def make(folder: Path) -> None:
        source = plain_t5(folder.with_name(f"{folder.name}-plain"), model_type)
        saved(folder, source, "mean", *layers, **given)

    return make


def _then(make: Maker, file: str, **keys: Any) -> Maker:
    def both(folder: Path) -> None:
        make(folder)
        changed(folder, file, **keys)

    return both


_UNIT = Normalize()
_CUT_LEFT = wordpiece(truncation_side="left", model_max_length=10)
#: Shapes that are read, by name.
EMBEDDINGS: dict[str, Maker] = {
    "all-MiniLM: BERT, mean, Normalize": _of("bert", "mean", _UNIT),
    "BGE: BERT, cls, Normalize, query prompt": _of(
        "bert", "cls", _UNIT, prompts={"query": "represent this: "}
    ),
    "TAS-B: DistilBERT, cls, dot": _of("distilbert", "cls", similarity_fn_name="dot"),
    "multilingual-e5: XLM-R, mean, Normalize, prompts": _of(
        "xlm-roberta", "mean", _UNIT, prompts=_PROMPTS
    ),
    "all-mpnet: MPNet, mean, Normalize": _of("mpnet", "mean", _UNIT),
    "gte-modernbert: ModernBERT, cls": _of("modernbert", "cls"),
    "LaBSE: BERT, cls, Dense Tanh, Normalize": _of(
        "bert", "cls", dense(WIDTH, WIDTH, nn.Tanh()), _UNIT
    ),
    "distiluse: DistilBERT, mean, Dense Tanh": _of(
        "distilbert", "mean", dense(WIDTH, 24, nn.Tanh())
    ),
    "GTR, sentence-t5: T5 encoder, Dense, Normalize": _t5(
        "t5", dense(WIDTH, 24, bias=False), _UNIT
    ),
    "INSTRUCTOR: T5 encoder, prompt left out, Dense, Normalize": _t5(
        "t5", dense(WIDTH, 24, bias=False), _UNIT, include_prompt=False, prompts=_PROMPTS
    ),
    "mT5 encoder, mean": _t5("mt5"),
    "umT5 encoder, mean, Normalize": _t5("umt5", _UNIT),
    "Qwen3-Embedding: Qwen3, last token, left, Normalize, prompt": _of(
        "qwen3", "lasttoken", _UNIT, prompts={"query": "Instruct: find\nQuery:"}
    ),
    "e5-mistral: Mistral, last token, Normalize": _of("mistral", "lasttoken", _UNIT),
    "EmbeddingGemma: Gemma 3 both ways, mean, two Dense, Normalize": _of(
        "gemma3_text",
        "mean",
        dense(WIDTH, 64, bias=False),
        dense(64, WIDTH, bias=False),
        _UNIT,
        prompts={"query": "task: search | query: ", "document": "title: none | text: "},
        source={"use_bidirectional_attention": True},
    ),
    "Qwen2, last token": _of("qwen2", "lasttoken"),
    "Llama, last token, right": _of(
        "llama", "lasttoken", source={"tokenizer": bytes_of("<s> $A </s>")}
    ),
    "Gemma, mean": _of("gemma", "mean"),
    "Gemma 2, sliding window, last token": _of("gemma2", "lasttoken"),
    "Phi-3, last token": _of("phi3", "lasttoken"),
    "OLMo 2, last token": _of("olmo2", "lasttoken"),
    "SmolLM3, mean": _of("smollm3", "mean"),
    "SGPT: GPT-NeoX, weighted mean": _of("gpt_neox", "weightedmean"),
    "BLOOM, weighted mean": _of("bloom", "weightedmean"),
    "OPT, last token": _of("opt", "lasttoken", source={"tokenizer": bytes_of("<s> $A")}),
    "GPT-2, mean, right": _of("gpt2", "mean", source={"tokenizer": bytes_of("$A </s>")}),
    "Mamba, last token": _of("mamba", "lasttoken"),
    "XLNet, mean, left, token types": lambda folder: saved(
        folder, plain_xlnet(folder.with_name(f"{folder.name}-plain"))
    ),
    "RoBERTa, mean": _of("roberta", "mean"),
    "XLM-R XL, cls": _of("xlm-roberta-xl", "cls"),
    "CamemBERT, mean": _of("camembert", "mean"),
    "data2vec, mean": _of("data2vec-text", "mean"),
    "Longformer, mean": _of("longformer", "mean"),
    "ALBERT, mean": _of("albert", "mean"),
    "ELECTRA, cls": _of("electra", "cls"),
    "ERNIE, cls": _of("ernie", "cls"),
    "MobileBERT, mean": _of("mobilebert", "mean"),
    "RoFormer, mean": _of("roformer", "mean"),
    "SqueezeBERT, mean": _of("squeezebert", "mean"),
    "Megatron-BERT, mean": _of("megatron-bert", "mean"),
    "DeBERTa v2, mean": _of("deberta-v2", "mean"),
    "BigBird, mean": _of("big_bird", "mean"),
    "max": _of("bert", "max"),
    "mean over the root of the length, dot": _of(
        "bert", "mean_sqrt_len_tokens", similarity_fn_name="dot"
    ),
    "weighted mean": _of("bert", "weightedmean"),
    "mean and max": _of("bert", ["max", "mean"], dense(2 * WIDTH, 16)),
    "all six poolings": _of(
        "bert", ["cls", "max", "mean", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"]
    ),
    "mean before cls: an order of its own": _of("bert", ["mean", "cls"]),
    "LayerNorm": _of("bert", "mean", norm(WIDTH)),
    "LayerNorm, Dense ReLU, Dense GELU, Normalize": _of(
        "bert", "cls", norm(WIDTH), dense(WIDTH, 48, nn.ReLU()), dense(48, 16, nn.GELU()), _UNIT
    ),
    "residual Dense": _of("bert", "mean", dense(WIDTH, WIDTH, nn.Tanh(), use_residual=True)),
    "residual Dense to fewer dimensions": _of(
        "bert", "mean", dense(WIDTH, 16, nn.SiLU(), use_residual=True), similarity_fn_name="dot"
    ),
    "Normalize, Dense": _of("bert", "mean", _UNIT, dense(WIDTH, 16), similarity_fn_name="dot"),
    "Dropout, Dense": _of("bert", "mean", Dropout(0.3), dense(WIDTH, 16)),
    "cls after the prompt": _of("bert", "cls", include_prompt=False, prompts=_PROMPTS),
    "weighted mean after the prompt, left": _of(
        "qwen3", "weightedmean", include_prompt=False, prompts=_PROMPTS
    ),
    "truncated to 12 dimensions": _of("bert", "mean", _UNIT, truncate_dim=12),
    "lower case": _of(
        "bert",
        "mean",
        transformer={"do_lower_case": True},
        source={"tokenizer": wordpiece(lowercase=False)},
    ),
    "queries of 6 tokens, passages of 10": _of(
        "bert", "mean", transformer={"query_length": 6, "document_length": 10}
    ),
    "BERT that pads on the left, cls": _of(
        "bert", "cls", source={"tokenizer": wordpiece(padding_side="left")}
    ),
    "cut on the left": _of(
        "bert", "mean", source={"tokenizer": wordpiece(truncation_side="left", model_max_length=10)}
    ),
    "sentence_distilbert_config.json": _older_name,
    "0_Transformer": _in_a_folder_of_its_own,
    "pytorch_model.bin": _older_weights,
    "LoRA adapter over BERT": lambda folder: _adapter_folder(folder, "bert", "mean"),
    "LoRA adapter over Qwen3": lambda folder: _adapter_folder(folder, "qwen3", "lasttoken"),
    "StaticEmbedding": static,
    "StaticEmbedding, Dense, Normalize, prompt": lambda folder: static(
        folder, dense(WIDTH, 16), Normalize(), prompts={"query": "find: "}
    ),
    "model2vec: rows shared and weighed": _model2vec,
}

_BERT_MEAN = _of("bert", "mean", dense(WIDTH, 16))


def _module(kind: str) -> Maker:
    """A folder whose last module is of another kind."""

    def make(folder: Path) -> None:
        _BERT_MEAN(folder)
        modules = json.loads((folder / "modules.json").read_text())
        modules[2]["type"] = kind
        (folder / "modules.json").write_text(json.dumps(modules))

    return make


def _of_another_base(folder: Path) -> None:
    _adapter_folder(folder, "bert", "mean")
    file = folder / "adapter_model.safetensors"
    save_file({f"{name}x": value for name, value in load_file(file).items()}, file)


def _without_pad(folder: Path) -> None:
    _of("gpt2", "mean", source={"tokenizer": bytes_of("$A </s>")})(folder)
    bytes_of("$A </s>", without_pad=True).save_pretrained(folder)


_MODEL, _INNER = "config_sentence_transformers.json", "sentence_bert_config.json"
_ST = "sentence_transformers"
#: Shapes that are refused, by name, and what the line has to name.
REFUSED: dict[str, tuple[Maker, str]] = {
    "a plain folder, pooling unsaid": (lambda folder: plain(folder, "bert"), "model.pooling"),
    "code in auto_map": (
        _then(_BERT_MEAN, "config.json", auto_map={"AutoModel": "modeling.Other"}),
        "auto_map",
    ),
    "a tokenizer's code in auto_map": (
        _then(_BERT_MEAN, "tokenizer_config.json", auto_map={"AutoTokenizer": ["a.B", None]}),
        "auto_map",
    ),
    "a module of code outside": (_module("custom.Head"), "custom.Head"),
    "Router": (_module(f"{_ST}.base.modules.router.Router"), "Router"),
    "CNN": (_module(f"{_ST}.models.CNN"), "CNN"),
    "LSTM": (_module(f"{_ST}.models.LSTM"), "LSTM"),
    "WordWeights": (_module(f"{_ST}.models.WordWeights"), "WordWeights"),
    "SPLADE": (_module(f"{_ST}.sparse_encoder.models.SpladePooling"), "SpladePooling"),
    "ColBERT": (
        _then(_BERT_MEAN, "2_Dense/config.json", module_input_name="token_embeddings"),
        "module_input_name",
    ),
    "euclidean": (_then(_BERT_MEAN, _MODEL, similarity_fn_name="euclidean"), "euclidean"),
    "a sparse model": (_then(_BERT_MEAN, _MODEL, model_type="SparseEncoder"), "model_type"),
    "an unknown key of the model": (_then(_BERT_MEAN, _MODEL, scale=2.0), "scale"),
    "a task that is not features": (
        _then(_BERT_MEAN, _INNER, transformer_task="fill-mask"),
        "transformer_task",
    ),
    "texts as chat messages": (
        _then(
            _BERT_MEAN,
            _INNER,
            modality_config={
                "message": {"method": "forward", "method_output_name": "last_hidden_state"}
            },
        ),
        "modality_config",
    ),
    "arguments of the processor": (
        _then(_BERT_MEAN, _INNER, processing_kwargs={"text": {"max_length": 4}}),
        "processing_kwargs",
    ),
    "arguments of the model": (
        _then(_BERT_MEAN, _INNER, model_args={"add_pooling_layer": False}),
        "model_args",
    ),
    "query expansion": (
        _then(_BERT_MEAN, _INNER, query_expansion={"strategy": "fixed", "length": 8}),
        "query_expansion",
    ),
    "an unknown key of the transformer": (_then(_BERT_MEAN, _INNER, layer=-2), "layer"),
    "an unknown pooling": (
        _then(_BERT_MEAN, "1_Pooling/config.json", pooling_mode="attention"),
        "attention",
    ),
    "an unknown key of Pooling": (
        _then(_BERT_MEAN, "1_Pooling/config.json", pooling_mode_first_last=True),
        "pooling_mode_first_last",
    ),
    "an activation of code": (
        _then(_BERT_MEAN, "2_Dense/config.json", activation_function="custom.Swish"),
        "custom.Swish",
    ),
    "an activation with weights": (
        _then(_BERT_MEAN, "2_Dense/config.json", activation_function="torch.nn.PReLU"),
        "PReLU",
    ),
    "quantised weights": (
        _then(_BERT_MEAN, "config.json", quantization_config={"quant_method": "gptq"}),
        "quantization_config",
    ),
    "ConvBERT: padding moves its vectors": (_of("convbert", "mean"), "padding"),
    "Nystromformer: padding moves its vectors": (_of("nystromformer", "cls"), "padding"),
    "Marian's encoder": (_then(_BERT_MEAN, "config.json", model_type="marian"), "marian"),
    "an adapter of another base": (_of_another_base, "adapter"),
    "no padding token": (_without_pad, "padding token"),
}
