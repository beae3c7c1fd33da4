"""Tiny models with random weights and a tiny collection, made once a session, wholly offline."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import settings
from tokenizers import (
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)
from topics import TOPICS
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    DistilBertConfig,
    DistilBertModel,
    LlamaConfig,
    LlamaForCausalLM,
    ModernBertConfig,
    ModernBertModel,
    MPNetConfig,
    MPNetModel,
    MT5Config,
    MT5ForConditionalGeneration,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaModel,
    T5Config,
    T5ForConditionalGeneration,
    XLMRobertaConfig,
    XLMRobertaModel,
)
from word_pieces import SPECIAL, word_pieces

pytest_plugins = ["weaviate_fixtures", "tiny_runs", "faults"]

# How long an example takes is the machine's affair, and other work's on it.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses the browser; let the files with most slow tests begin, so that none ends late.

    Files that the command line names keep their order.
    """
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.browser)
    if all(Path(argument).is_dir() for argument in config.args):
        slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
        items.sort(key=lambda item: -slow[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where TERCET_REQUIRE_ALL is set, a test that is skipped for want of anything has failed.

    But for a GPU: no command installs one.
    """
    report = yield
    needs_gpu = item.get_closest_marker("gpu") is not None
    if report.skipped and not needs_gpu and os.environ.get("TERCET_REQUIRE_ALL"):
        report.outcome, report.longrepr = "failed", f"skipped: {report.longrepr}"
    return report


TEMPLATES = [
    "The {0} is known for its {1}. Visitors ask about the {2} and how it is kept.",
    "A guide to the {0}: the {3} comes first, then the {4}, and the work takes a whole day.",
    "In winter the {1} and the {3} need care. Without it the {2} of a {0} may be lost for years.",
]
QUESTION = "how does the {0} use its {1}"


def _passages() -> Iterable[dict[str, str]]:
    for i, topic in enumerate(TOPICS):
        for j, template in enumerate(TEMPLATES):
            title = topic[0].capitalize() if j == 0 else ""
            yield {"_id": f"p{3 * i + j:02}", "title": title, "text": template.format(*topic)}


def _queries() -> Iterable[dict[str, str]]:
    for i, topic in enumerate(TOPICS):
        yield {"_id": f"q{i:02}", "text": QUESTION.format(*topic)}


@pytest.fixture(scope="session")
def tiny_beir_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BEIR folder: 60 passages, 20 queries, 12 of them judged in test.tsv and 8 in dev.tsv."""
    folder = tmp_path_factory.mktemp("beir")
    (folder / "qrels").mkdir()
    for name, rows in (("corpus", _passages()), ("queries", _queries())):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    for split, topics in (("test", range(12)), ("dev", range(12, 20))):
        rows = [f"q{i:02}\tp{3 * i + j:02}\t{2 - min(j, 1)}\n" for i in topics for j in range(3)]
        text = "query-id\tcorpus-id\tscore\n" + "".join(rows)
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def tiny_texts() -> list[str]:
    """The texts of the tiny collection, passages first: the vocabularies come from them."""
    return [row["text"] for row in (*_passages(), *_queries())]


def _wordpiece(texts: list[str]) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(word_pieces(texts))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIAL)
    tokenizer.decoder = decoders.WordPiece()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
        model_max_length=64,
    )


def _byte_bpe(texts: list[str], template: str, pairs: str | None = None) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=template, pair=pairs, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        cls_token="<s>",
        sep_token="</s>",
        model_max_length=64,
    )


def _save(folder: Path, tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> Path:
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)
    return folder


def _pool_by_mean(folder: Path) -> None:
    """Write sentence-transformers' files that say so, and nothing of prompts or similarity."""
    kinds = {"Transformer": "", "Pooling": "1_Pooling"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (kind, path) in enumerate(kinds.items())
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))


_SIZES = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 600,
    "initializer_range": 0.2,  # the usual 0.02 would make all texts nearly equal
}
_DISTIL_SIZES = {
    "dim": 32,
    "n_layers": 2,
    "n_heads": 4,
    "hidden_dim": 64,
    "vocab_size": 600,
    "initializer_range": 0.2,
}
_OFFSET = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "max_position_embeddings": 66}


def _family(name: str) -> PreTrainedModel:
    match name:
        case "bert":
            return BertModel(BertConfig(**_SIZES, max_position_embeddings=64))
        case "distilbert":
            return DistilBertModel(DistilBertConfig(**_DISTIL_SIZES, max_position_embeddings=64))
        case "roberta":
            return RobertaModel(RobertaConfig(**_SIZES, **_OFFSET))
        case "xlm-roberta":
            return XLMRobertaModel(XLMRobertaConfig(**_SIZES, **_OFFSET))
        case "mpnet":
            return MPNetModel(MPNetConfig(**_SIZES, **_OFFSET))
        case "modernbert":
            return ModernBertModel(
                ModernBertConfig(
                    **_SIZES,
                    max_position_embeddings=64,
                    pad_token_id=0,
                    cls_token_id=2,
                    sep_token_id=3,
                    bos_token_id=2,
                    eos_token_id=3,
                    local_attention=8,
                    global_attn_every_n_layers=2,
                    initializer_cutoff_factor=2.0,
                )
            )
    raise ValueError(name)


@pytest.fixture(scope="session")
def encoder_family(
    tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]
) -> Callable[[str], Path]:
    """Family name -> the folder of a tiny random encoder, whose modules.json says mean pooling."""
    made: dict[str, Path] = {}

    def make(name: str) -> Path:
        if name not in made:
            with torch.random.fork_rng():
                torch.manual_seed(len(name))
                model = _family(name)
            offset = name in ("roberta", "xlm-roberta", "mpnet")
            pairs = "<s> $A </s> </s> $B </s>"
            tokenizer = (
                _byte_bpe(tiny_texts, "<s> $A </s>", pairs) if offset else _wordpiece(tiny_texts)
            )
            made[name] = _save(tmp_path_factory.mktemp(name), tokenizer, model)
            _pool_by_mean(made[name])
        return made[name]

    return make


@pytest.fixture(scope="session")
def tiny_encoder_path(encoder_family: Callable[[str], Path]) -> Path:
    """A BERT of 2 layers and 32 dimensions."""
    return encoder_family("bert")


@pytest.fixture(scope="session")
def tiny_cross_encoder_path(
    tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]
) -> Path:
    """A BERT of 2 layers that gives one logit to a pair of texts."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        config = BertConfig(**_SIZES, max_position_embeddings=64, num_labels=1)
        model = BertForSequenceClassification(config)
    return _save(tmp_path_factory.mktemp("cross-encoder"), _wordpiece(tiny_texts), model)


@pytest.fixture(scope="session")
def tiny_causal_path(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A Llama of 2 layers over bytes and learnt merges; it babbles."""
    with torch.random.fork_rng():
        torch.manual_seed(2)
        special = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
        model = LlamaForCausalLM(LlamaConfig(**_SIZES, **special, max_position_embeddings=1024))
    tokenizer = _byte_bpe([text + "\n" for text in tiny_texts], "<s> $A")
    return _save(tmp_path_factory.mktemp("causal"), tokenizer, model)


@pytest.fixture(scope="session")
def tiny_seq2seq_path(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """A T5 of 2 layers; it babbles."""
    folder = tmp_path_factory.mktemp("seq2seq")
    return _save_t5(folder, tiny_texts, T5Config, T5ForConditionalGeneration)


@pytest.fixture(scope="session")
def tiny_mt5_path(tmp_path_factory: pytest.TempPathFactory, tiny_texts: list[str]) -> Path:
    """An mT5 of the same shape."""
    folder = tmp_path_factory.mktemp("mt5")
    return _save_t5(folder, tiny_texts, MT5Config, MT5ForConditionalGeneration)


def _save_t5(folder: Path, texts: list[str], config: Any, model: Any) -> Path:
    shape = {"vocab_size": 600, "d_model": 32, "d_kv": 8, "d_ff": 64}
    layers = {"num_layers": 2, "num_heads": 4}
    tokens = {"pad_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    with torch.random.fork_rng():
        torch.manual_seed(3)
        network = model(config(**shape, **layers, **tokens))
    return _save(folder, _byte_bpe(texts, "$A </s>"), network)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium of the system's, without network.

    While it is there an event loop runs, and tests that begin one of their own fail: so it ends
    with its module.
    """
    sync_api = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    program = next(filter(None, map(shutil.which, names)), None)
    if program is None:
        pytest.skip("no Chromium is installed")
    quiet = "quic gpu background-networking component-update sync".split()
    arguments = ["--no-sandbox", "--no-first-run", *(f"--disable-{name}" for name in quiet)]
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()
