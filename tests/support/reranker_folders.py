"""Tiny rerankers with random weights, of the shapes that people name, and what each should give.

transformers and sentence-transformers make all of them. A shape that is read has a reference:
sentence-transformers' own scores of a pair, or the formula that its authors published.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder.modules import LogitScore, Transformer
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from transformers import PreTrainedTokenizerFast
from word_pieces import SPECIAL, word_pieces

from tercet.modeling import Asked

TEXTS = (
    "The lighthouse keeper climbs the stairs before dusk and trims the lamp.",
    "A beekeeper smokes the hive, lifts the frames and looks for the queen.",
    "how is the lamp of a lighthouse trimmed?",
    "Salt marshes flood at spring tide; geese graze on them in winter.",
    "Query: Document: Relevant: A: B: <Instruct>: true false yes no Yes No",
)
PAIRS = (
    ("how is the lamp trimmed?", TEXTS[0]),
    ("bees", TEXTS[1]),
    ("", "an empty query"),
    ("where do geese graze in winter", TEXTS[3]),
    ("where do geese graze in winter", TEXTS[0] + " " + TEXTS[1]),
    ("lamp", "lamp"),
)
_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 700,
    "initializer_range": 0.2,  # the usual 0.02 would make all pairs nearly equal
    "max_position_embeddings": 256,
}
_DECODER = {**_SIZES, "max_position_embeddings": 1024, "num_key_value_heads": 2, "head_dim": 8}
#: A template that shows a query and a document, as those of rerankers do.
TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'system' %}<|im_start|>system\n{{ m.content }}"
    "<|im_end|>\n{% endif %}{% endfor %}<|im_start|>user\n"
    "<Query>: {{ messages | selectattr('role', 'eq', 'query') | map(attribute='content') | first }}"
    "\n<Document>: {{ messages | selectattr('role', 'eq', 'document') | map(attribute='content') "
    "| first }}<|im_end|>\n<|im_start|>assistant\n"
)
STRUCTURED = "{% for m in messages %}[{{ m.role }}] {{ m.content[0].text }}{% endfor %}</s>"
#: The usual template of a chat model, which knows no query and no document.
CHAT_ALONE = (
    "{% for m in messages %}{% if m.role in ('system', 'user', 'assistant') %}<|im_start|>"
    "{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
)

Make = Callable[[Path], None]


@dataclass(frozen=True)
class Shape:
    """A folder and how a recipe asks for it.

    `reference` is "sentence-transformers" or the name of a published formula; or a word of the
    line that refuses the folder, where `read` is false.
    """

    make: Make
    reference: str = "sentence-transformers"
    asked: Asked | None = None
    column: int | None = None
    read: bool = True


def wordpiece() -> PreTrainedTokenizerFast:
    """A tokenizer as BERT's."""
    tokenizer = Tokenizer(word_pieces(TEXTS))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        **{f"{name}_token": token for name, token in names.items()},
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=256,
    )


def byte_bpe(
    single: str = "<s> $A </s>",
    pair: str = "<s> $A </s> </s> $B </s>",
    *,
    pad: str | None = "<pad>",
    template: str | None = None,
) -> PreTrainedTokenizerFast:
    """A tokenizer as RoBERTa's or, with other forms, as a language model's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>", "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, pair=pair, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    made = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        pad_token=pad,
        model_max_length=256,
    )
    made.add_tokens(["yes", "no", "Yes"])
    made.chat_template = template
    return made


def language(**given: Any) -> PreTrainedTokenizerFast:
    """A tokenizer of a language model, which puts nothing around texts."""
    return byte_bpe("$A", "$A $B", **given)


def unigram() -> PreTrainedTokenizerFast:
    """A tokenizer as T5's, with the words of monoT5 and of mT5 on mMARCO."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    words = ["▁true", "▁false", "▁yes", "▁no"]
    trainer = trainers.UnigramTrainer(
        vocab_size=150,
        special_tokens=["<pad>", "</s>", "<unk>", *words],
        unk_token="<unk>",
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        model_max_length=256,
    )


def model(kind: str, suffix: str, tokenizer: Any = wordpiece, **given: Any) -> Make:
    """A folder of the model {kind}{suffix}, its config of `given`."""

    def make(folder: Path) -> None:
        config = getattr(transformers, f"{kind}Config")(**given)
        with torch.random.fork_rng():
            torch.manual_seed(len(kind))
            network = getattr(transformers, f"{kind}{suffix}")(config)
        network.save_pretrained(folder)
        tokenizer().save_pretrained(folder)

    return make


def classifier(kind: str, tokenizer: Any = wordpiece, **given: Any) -> Make:
    """A cross-encoder of one logit, unless `given` says otherwise."""
    return model(kind, "ForSequenceClassification", tokenizer, **{"num_labels": 1} | given)


def with_files(make: Make, **files: Mapping[str, Any] | str | None) -> Make:
    """A folder with more files, by their names without suffix: JSON, a template, or none."""

    def more(folder: Path) -> None:
        make(folder)
        for name, content in files.items():
            file = folder / name.replace("__", "/")
            file = file.with_name(file.name + (".jinja" if isinstance(content, str) else ".json"))
            if isinstance(content, str):
                file.write_text(content)
                continue
            held = json.loads(file.read_text()) if file.exists() else {}
            file.parent.mkdir(exist_ok=True)
            file.write_text(json.dumps(held | dict(content or {})))

    return more


def listed(make: Make, *modules: tuple[str, str]) -> Make:
    """A cross-encoder's folder with modules.json: (type, path) of each."""

    def more(folder: Path) -> None:
        make(folder)
        rows = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.{kind}"}
            for i, (kind, path) in enumerate(modules)
        ]
        (folder / "modules.json").write_text(json.dumps(rows))

    return with_files(more, config_sentence_transformers={"model_type": "CrossEncoder"})


def saved(make: Make, **given: Any) -> Make:
    """What sentence-transformers' CrossEncoder writes of a folder."""

    def again(folder: Path) -> None:
        plain = folder.with_name(folder.name + "-plain")
        make(plain)
        CrossEncoder(str(plain), device="cpu", **given).save_pretrained(str(folder))

    return again


def scored(make: Make, yes: str, no: str | None, *, chat: bool = True, **given: Any) -> Make:
    """A causal model with LogitScore, as sentence-transformers writes it."""

    def again(folder: Path) -> None:
        plain = folder.with_name(folder.name + "-plain")
        make(plain)
        way = {"method": "forward", "method_output_name": "logits"}
        only_text: dict[str, Any] = {
            "modality_config": {"text": way},
            "module_output_name": "causal_logits",
        }
        transformer = Transformer(
            str(plain), transformer_task="text-generation", **({} if chat else only_text)
        )
        ids = transformer.tokenizer.convert_tokens_to_ids
        score = LogitScore(ids(yes), None if no is None else ids(no))
        CrossEncoder(modules=[transformer, score], device="cpu", **given).save_pretrained(
            str(folder)
        )

    return again


def phobert(folder: Path) -> None:
    """A RoBERTa whose tokenizer is Python code: PhoBERT's."""
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
    config = transformers.RobertaConfig(**_SIZES | ids, num_labels=1)
    with torch.random.fork_rng():
        torch.manual_seed(3)
        transformers.RobertaForSequenceClassification(config).save_pretrained(folder)
    words = sorted({word for text in TEXTS for word in text.split()})
    (folder / "vocab.txt").write_text("".join(f"{word} 1\n" for word in words))
    (folder / "bpe.codes").write_text("#version: 0.2\n")
    tokenizer = transformers.PhobertTokenizer(
        str(folder / "vocab.txt"), str(folder / "bpe.codes"), model_max_length=200
    )
    tokenizer.save_pretrained(folder)


def japanese(folder: Path) -> None:
    """A BERT whose tokenizer is Python code: the Japanese one, of characters."""
    classifier("Bert", **_SIZES)(folder)
    for file in folder.glob("tokenizer*"):
        file.unlink()
    letters = sorted({letter for text in TEXTS for letter in text})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    (folder / "vocab.txt").write_text("\n".join([*special, *letters]) + "\n")
    transformers.BertJapaneseTokenizer(
        str(folder / "vocab.txt"),
        word_tokenizer_type="basic",
        subword_tokenizer_type="character",
        model_max_length=200,
    ).save_pretrained(folder)


def peft_adapter(folder: Path) -> None:
    """A LoRA adapter without its base."""
    classifier("Bert", **_SIZES)(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))


_IDS = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
_NO_PAD = {"bos_token_id": 0, "eos_token_id": 2}
_BERT = classifier("Bert", **_SIZES)
_QWEN3 = model("Qwen3", "ForCausalLM", language, **_DECODER, **_IDS)
_QWEN3_CHAT = model("Qwen3", "ForCausalLM", lambda: language(template=TEMPLATE), **_DECODER, **_IDS)
_QWEN3_LABEL = classifier("Qwen3", lambda: language(template=TEMPLATE), **_DECODER, **_IDS)
_T5 = {
    "vocab_size": 200,
    "d_model": 32,
    "d_kv": 8,
    "d_ff": 64,
    "num_layers": 2,
    "num_heads": 4,
    "pad_token_id": 0,
    "eos_token_id": 1,
    "decoder_start_token_id": 0,
    "initializer_factor": 1.0,
}
_BART = {
    "vocab_size": 700,
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 4,
    "encoder_ffn_dim": 64,
    "decoder_ffn_dim": 64,
    "max_position_embeddings": 256,
    "init_std": 0.2,
    "pad_token_id": 1,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "forced_eos_token_id": 2,
}
_NAMED = {"id2label": {0: "contradiction", 1: "entailment", 2: "neutral"}, "num_labels": 3}
_PROMPTS = {
    "prompts": {"search": "Judge the passage: "},
    "default_prompt_name": "search",
}
_OFFSET = {**_SIZES, **_IDS, "max_position_embeddings": 258}
_GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 700, "n_positions": 256}
_GPT2 |= {"initializer_range": 0.2, **_NO_PAD}
_SEQUENCE = {"transformer_task": "sequence-classification"}
_WAY = {"method": "forward", "method_output_name": "logits"}

READ: dict[str, Shape] = {
    "BERT": Shape(_BERT),
    "DistilBERT": Shape(
        classifier(
            "DistilBert",
            dim=32,
            n_layers=2,
            n_heads=4,
            hidden_dim=64,
            vocab_size=700,
            max_position_embeddings=256,
            initializer_range=0.2,
        )
    ),
    "ELECTRA": Shape(classifier("Electra", embedding_size=32, **_SIZES)),
    "ALBERT": Shape(classifier("Albert", embedding_size=16, **_SIZES)),
    "RoBERTa": Shape(classifier("Roberta", byte_bpe, **_OFFSET)),
    "XLM-RoBERTa (bge-reranker-v2-m3)": Shape(classifier("XLMRoberta", byte_bpe, **_OFFSET)),
    "CamemBERT": Shape(classifier("Camembert", byte_bpe, **_OFFSET)),
    "MPNet": Shape(classifier("MPNet", byte_bpe, **_OFFSET)),
    "DeBERTa v2 (mxbai-rerank v1)": Shape(
        classifier(
            "DebertaV2",
            relative_attention=True,
            pos_att_type=["p2c", "c2p"],
            **_SIZES,
        )
    ),
    "ModernBERT (gte-reranker)": Shape(
        classifier(
            "ModernBert",
            **_SIZES | {"initializer_cutoff_factor": 2.0, "local_attention": 8},
            pad_token_id=0,
            cls_token_id=2,
            sep_token_id=3,
            bos_token_id=2,
            eos_token_id=3,
        )
    ),
    "XLNet, padded on the left": Shape(
        classifier(
            "XLNet",
            byte_bpe,
            d_model=32,
            n_layer=2,
            n_head=4,
            d_inner=64,
            vocab_size=700,
            initializer_range=0.5,
        )
    ),
    "BART": Shape(classifier("Bart", byte_bpe, **_BART)),
    "T5 with a classifier": Shape(classifier("T5", unigram, **_T5)),
    "PhoBERT, a tokenizer in Python": Shape(phobert),
    "Japanese BERT, a tokenizer in Python": Shape(japanese),
    "Llama, no pad token in the config": Shape(
        classifier("Llama", lambda: byte_bpe("<s> $A", "<s> $A <s> $B"), **_DECODER, **_NO_PAD)
    ),
    "Llama, no pad token, pairs end with eos": Shape(
        classifier("Llama", lambda: byte_bpe(pad=None), **_DECODER, **_NO_PAD), "transformers"
    ),
    "GPT-2 without a pad token": Shape(
        classifier("GPT2", lambda: language(pad=None), **_GPT2), "transformers"
    ),
    "Qwen2 with a classifier": Shape(classifier("Qwen2", language, **_DECODER, **_IDS)),
    "Gemma 2 with a classifier": Shape(
        classifier("Gemma2", lambda: byte_bpe("<s> $A", "<s> $A <s> $B"), **_DECODER, **_IDS)
    ),
    "three labels, one by its name": Shape(
        classifier("Bert", **_SIZES, **_NAMED), asked=Asked(label="entailment"), column=1
    ),
    "two labels, one by its number": Shape(
        classifier("Roberta", byte_bpe, **_OFFSET | {"num_labels": 2}),
        asked=Asked(label="1"),
        column=1,
    ),
    "a prompt before queries": Shape(saved(_BERT, **_PROMPTS)),
    "a prompt, and no modules.json": Shape(
        with_files(_BERT, config_sentence_transformers=_PROMPTS)
    ),
    "saved by sentence-transformers 6": Shape(saved(_BERT)),
    "saved with a maximum length": Shape(saved(_BERT, max_length=100)),
    "lower case in modules.json": Shape(
        listed(
            with_files(
                classifier("Roberta", byte_bpe, **_OFFSET),
                sentence_bert_config=_SEQUENCE | {"do_lower_case": True, "max_seq_length": 200},
            ),
            ("base.modules.transformer.Transformer", ""),
        )
    ),
    "Qwen3 classifier with a chat template": Shape(_QWEN3_LABEL),
    "a chat template with a prompt": Shape(saved(_QWEN3_LABEL, **_PROMPTS)),
    "a template of typed parts": Shape(
        classifier("Qwen3", lambda: language(template=STRUCTURED), **_DECODER, **_IDS)
    ),
    "a chat template, saved by sentence-transformers 6": Shape(saved(_QWEN3_LABEL)),
    "Qwen3-Reranker with LogitScore and a template": Shape(scored(_QWEN3_CHAT, "yes", "no")),
    "LogitScore with a prompt": Shape(
        scored(_QWEN3_CHAT, "yes", "no", prompts={"web": "Find it."}, default_prompt_name="web")
    ),
    "LogitScore of one answer": Shape(scored(_QWEN3_CHAT, "yes", None)),
    "LogitScore over two texts": Shape(scored(_QWEN3, "yes", "no", chat=False)),
    "causal GPT-2, a template of pairs": Shape(
        model("GPT2", "LMHeadModel", lambda: language(template=TEMPLATE), **_GPT2 | _IDS),
        reference="template",
    ),
    "causal, a template of pairs alone": Shape(_QWEN3_CHAT),
    "Qwen3-Reranker as published": Shape(_QWEN3, "qwen3"),
    "Qwen3-Reranker with an instruction": Shape(
        _QWEN3, "qwen3", asked=Asked(instruction="Find the passage that says it")
    ),
    "Qwen3-Reranker beside a plain chat template": Shape(
        model("Qwen3", "ForCausalLM", lambda: language(template=CHAT_ALONE), **_DECODER, **_IDS),
        "qwen3",
    ),
    "bge-reranker-v2-gemma": Shape(
        model("Gemma", "ForCausalLM", lambda: byte_bpe("<s> $A"), **_DECODER, **_IDS), "gemma"
    ),
    "Llama, asked to be read as Qwen3-Reranker": Shape(
        model("Llama", "ForCausalLM", language, **_DECODER, **_IDS),
        "qwen3",
        asked=Asked(format="qwen3"),
    ),
    "monoT5": Shape(model("T5", "ForConditionalGeneration", unigram, **_T5), "monot5"),
    "mT5 on mMARCO": Shape(model("MT5", "ForConditionalGeneration", unigram, **_T5), "mmarco"),
}

REFUSED: dict[str, Shape] = {
    name: Shape(make, word, asked, read=False)
    for name, make, word, asked in (
        ("three labels, none asked for", classifier("Bert", **_SIZES, **_NAMED), "3 labels", None),
        (
            "a label that it lacks",
            classifier("Bert", **_SIZES, **_NAMED),
            "entailment, neutral",
            Asked(label="relevant"),
        ),
        ("a masked language model", model("Bert", "ForMaskedLM", **_SIZES), "lacks weights", None),
        ("an encoder", model("Bert", "Model", **_SIZES), "lacks weights", None),
        ("code of its own", with_files(_BERT, config={"auto_map": {"x": "y"}}), "auto_map", None),
        (
            "a class of its own",
            with_files(_BERT, config={"architectures": ["MyForSequenceClassification"]}),
            "MyForSequenceClassification",
            None,
        ),
        ("images", with_files(_BERT, config={"vision_config": {"a": 1}}), "vision_config", None),
        ("a LoRA adapter", peft_adapter, "adapter_config.json", None),
        (
            "an embedding model",
            listed(_BERT, ("models.Transformer", ""), ("models.Pooling", "1_Pooling")),
            "Pooling",
            None,
        ),
        (
            "scores of a Dense",
            listed(_BERT, ("models.Transformer", ""), ("models.Dense", "1_Dense")),
            "Dense",
            None,
        ),
        (
            "a transformer in a folder",
            listed(_BERT, ("models.Transformer", "0_Transformer")),
            "0_Transformer",
            None,
        ),
        ("another task", listed(_BERT, ("models.Transformer", "")), "transformer_task", None),
        (
            "an unknown key of the model",
            listed(
                with_files(_BERT, config_sentence_transformers={"template": "x"}),
                ("models.Transformer", ""),
            ),
            "has template",
            None,
        ),
        (
            "a default prompt that it lacks",
            listed(
                with_files(_BERT, config_sentence_transformers={"default_prompt_name": "x"}),
                ("models.Transformer", ""),
            ),
            "default_prompt_name",
            None,
        ),
        (
            "modules of an encoder",
            with_files(
                listed(_BERT, ("models.Transformer", "")),
                config_sentence_transformers={"model_type": "SentenceTransformer"},
            ),
            "SentenceTransformer",
            None,
        ),
        (
            "an unknown key of the transformer",
            listed(
                with_files(_BERT, sentence_bert_config=_SEQUENCE | {"query_length": 8}),
                ("models.Transformer", ""),
            ),
            "query_length",
            None,
        ),
        (
            "arguments of the processor",
            listed(
                with_files(
                    _BERT,
                    sentence_bert_config=_SEQUENCE | {"processing_kwargs": {"text": {"x": 1}}},
                ),
                ("models.Transformer", ""),
            ),
            "processing_kwargs has text",
            None,
        ),
        (
            "arguments of the config",
            listed(
                with_files(
                    _BERT, sentence_bert_config=_SEQUENCE | {"config_kwargs": {"num_labels": 2}}
                ),
                ("models.Transformer", ""),
            ),
            "num_labels",
            None,
        ),
        (
            "another output",
            listed(
                with_files(
                    _BERT,
                    sentence_bert_config=_SEQUENCE
                    | {"modality_config": {"text": _WAY | {"method_output_name": "hidden_states"}}},
                ),
                ("models.Transformer", ""),
            ),
            "hidden_states",
            None,
        ),
        (
            "a causal model without LogitScore",
            listed(
                with_files(_QWEN3, sentence_bert_config={"transformer_task": "text-generation"}),
                ("models.Transformer", ""),
            ),
            "LogitScore is missing",
            None,
        ),
        (
            "a causal model of which nothing is said",
            model("Llama", "ForCausalLM", language, **_DECODER, **_IDS),
            "teacher.format",
            None,
        ),
        (
            "a template without pairs",
            classifier("Qwen3", lambda: language(template=CHAT_ALONE), **_DECODER, **_IDS),
            "chat template writes no pair",
            None,
        ),
        (
            "a template that fails",
            classifier(
                "Qwen3",
                lambda: language(template="{{ raise_exception('only users') }}"),
                **_DECODER,
                **_IDS,
            ),
            "only users",
            None,
        ),
        (
            "an instruction that no template shows",
            classifier(
                "Qwen3",
                lambda: language(
                    template=STRUCTURED.replace(
                        "m.role }}]",
                        "m.role }}]{% if m.role == 'system' %}{% continue %}{% endif %}",
                    )
                ),
                **_DECODER,
                **_IDS,
            ),
            "teacher.instruction",
            Asked(instruction="Find it."),
        ),
        (
            "a summariser",
            model("Bart", "ForConditionalGeneration", byte_bpe, **_BART),
            "teacher.format",
            None,
        ),
        (
            "monoT5 with an instruction",
            model("T5", "ForConditionalGeneration", unigram, **_T5),
            "no place for teacher.instruction",
            Asked(instruction="Judge."),
        ),
        ("answers of a classifier", _BERT, "teacher.answers", Asked(answers=["yes", "no"])),
        ("a label of a language model", _QWEN3, "teacher.label", Asked(label="0")),
        (
            "an answer of several tokens",
            _QWEN3,
            "must be one",
            Asked(answers=["certainly not", "no"]),
        ),
    )
}


def expected(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The reference's scores of pairs, each read alone: float32 [pairs]."""
    if shape.reference != "sentence-transformers":
        return _PUBLISHED[shape.reference](shape, folder, pairs)
    peer = CrossEncoder(str(folder), device="cpu")
    scores = peer.predict(list(pairs), activation_fn=torch.nn.Identity(), batch_size=1)
    return scores if shape.column is None else scores[:, shape.column]


def _of_causal(folder: Path, rows: Sequence[Sequence[int]]) -> torch.Tensor:
    """Logits of the next token after each row, [rows, vocabulary]."""
    network = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    with torch.inference_mode():
        return torch.stack([network(torch.tensor([list(row)])).logits[0, -1] for row in rows])


def _qwen3(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The log-odds of yes, of which Qwen3-Reranker's score is the sigmoid."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    told = (shape.asked.instruction if shape.asked else None) or (
        "Given a web search query, retrieve relevant passages that answer the query"
    )
    before = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query "
        'and the Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
        "<|im_start|>user\n"
    )
    after = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False)

    rows = [
        ids(before) + ids(f"<Instruct>: {told}\n<Query>: {q}\n<Document>: {p}") + ids(after)
        for q, p in pairs
    ]
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    last = _of_causal(folder, rows)
    chance = torch.log_softmax(torch.stack([last[:, no], last[:, yes]], dim=1), dim=1)
    return (chance[:, 1] - chance[:, 0]).numpy()


def _gemma(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The logit of Yes, as bge-reranker-v2-gemma's card has it."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    prompt = (
        "Given a query A and a passage B, determine whether the passage contains an answer to the "
        "query by providing a prediction of either 'Yes' or 'No'."
    )

    def ids(text: str) -> list[int]:
        return tokenizer(text, add_special_tokens=False)["input_ids"]

    rows = [
        [tokenizer.bos_token_id, *ids(f"A: {q}"), *ids("\n"), *ids(f"B: {p}"), *ids("\n")]
        + ids(prompt)
        for q, p in pairs
    ]
    return _of_causal(folder, rows)[:, ids("Yes")[0]].numpy()


def _template(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The log-odds of yes after the template, each pair without padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    rows = []
    for query, passage in pairs:
        messages = [
            {"role": "query", "content": query},
            {"role": "document", "content": passage},
        ]
        text = tokenizer.apply_chat_template(messages, tokenize=False)
        rows.append(tokenizer(text, add_special_tokens=False)["input_ids"])
    yes, no = (tokenizer.convert_tokens_to_ids(word) for word in ("yes", "no"))
    last = _of_causal(folder, rows)
    return (last[:, yes] - last[:, no]).numpy()


def _monot5(yes: str, no: str) -> Callable[..., np.ndarray]:
    """The log-odds of yes as the first word, of which monoT5's score is the log-sigmoid."""

    def score(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        network = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
        words = [tokenizer.get_vocab()[word] for word in (no, yes)]
        found = []
        for query, passage in pairs:
            read = tokenizer(f"Query: {query} Document: {passage} Relevant:", return_tensors="pt")
            start = torch.tensor([[network.config.decoder_start_token_id]])
            with torch.inference_mode():
                logits = network(**read, decoder_input_ids=start).logits[0, -1, words]
            chance = torch.log_softmax(logits, dim=0)
            found.append(float(chance[1] - chance[0]))
        return np.array(found, dtype=np.float32)

    return score


def _alone(shape: Shape, folder: Path, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """The logit of each pair alone, which needs no padding."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        read = [tokenizer(query, passage, return_tensors="pt") for query, passage in pairs]
        return np.array([float(network(**each).logits[0, 0]) for each in read], np.float32)


_PUBLISHED: dict[str, Callable[..., np.ndarray]] = {
    "transformers": _alone,
    "qwen3": _qwen3,
    "gemma": _gemma,
    "template": _template,
    "monot5": _monot5("▁true", "▁false"),
    "mmarco": _monot5("▁yes", "▁no"),
}
