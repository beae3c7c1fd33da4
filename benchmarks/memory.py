"""What a corpus ten times as large costs in memory, stage by stage.

    python benchmarks/memory.py [SMALL LARGE] [--index weaviate]

Runs every stage, each in a process of its own, on made-up corpora of two sizes (30,000 and 300,000
passages unless told otherwise) with a small untrained model of 384 dimensions: its vectors of the
larger corpus are 461 MB. Shown is the most memory of each process's own, without the pages that it
maps from files, which the system takes back when it needs them. Where BM25 and vectors are kept in
files without names, the folder for them is TMPDIR.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import yaml
from rich.table import Table
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    BertModel,
    PreTrainedTokenizerFast,
)

from tercet.core.console import console
from tercet.core.resources import read_resources

ROOT = Path(__file__).parent.parent
WORDS = 20_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
STAGES = ("corpus", "queries", "embeddings", "negatives", "scores", "triplets", "targets")


def main() -> None:
    """Two runs and their table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("passages", nargs="*", type=int, default=[30_000, 300_000])
    parser.add_argument("--index", choices=["exact", "faiss", "weaviate"], default="exact")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=ROOT / "runs" if (ROOT / "runs").exists() else None) as at:
        folder = Path(at)
        for name, kind, width in (
            ("student", BertModel, 384),
            ("teacher", BertForSequenceClassification, 32),
        ):
            write_model(folder / name, kind, width)
        peaks = [run(folder, passages, options.index) for passages in options.passages]
    table = Table("stage", *(f"{n:,} passages" for n in options.passages), "grows by")
    for stage in peaks[0]:
        mb = [peak[stage] / 1e6 for peak in peaks]
        table.add_row(stage, *(f"{each:,.0f} MB" for each in mb), f"{mb[-1] - mb[0]:+,.0f} MB")
    console.print(table)
    print(json.dumps({"passages": options.passages, "index": options.index, "peaks": peaks}))


def run(folder: Path, passages: int, index: str) -> dict[str, int]:
    """Each stage's peak in bytes."""
    corpus = folder / "corpus"
    shutil.rmtree(corpus, ignore_errors=True)
    corpus.mkdir()
    with (corpus / "corpus.jsonl").open("w") as file:
        for i, text in enumerate(texts(passages)):
            file.write(json.dumps({"_id": f"p{i}", "title": "", "text": text}) + "\n")
    recipe = folder / f"{passages}.yaml"
    recipe.write_text(yaml.safe_dump(settings(folder, passages, index)))
    programs = [*(f"scripts/{stage}.py" for stage in STAGES), "train.py"]
    for program in programs:
        console.print(f"[bold]{program}[/] on {passages:,} passages")
        subprocess.run([sys.executable, ROOT / program, recipe], check=True, cwd=ROOT)
    taken = read_resources(folder / f"memory-{passages}")
    shutil.rmtree(folder / f"memory-{passages}")
    return {name: each.peak or 0 for name, each in taken.items()}


def settings(folder: Path, passages: int, index: str) -> dict[str, object]:
    """The recipe: all that a run does, little of each."""
    return {
        "name": f"memory-{passages}",
        "runs_dir": str(folder),
        "corpus": {"source": "beir", "path": str(folder / "corpus")},
        "queries": {"generators": [{"kind": "spans"}], "count": 1000, "per_passage": 1},
        "teacher": {"name": str(folder / "teacher"), "max_length": 64},
        "model": {"name": str(folder / "student"), "pooling": "mean", "max_length": 64},
        "training": {"num_train_epochs": 1},
        "evaluation": {"interpolation_steps": 1},
        "index": {"backend": index} | ({"factory": "IVF{lists},SQ8"} if index == "faiss" else {}),
    }


def texts(count: int) -> Iterator[str]:
    """Passages of 8 to 16 made-up words, the common ones as common as in English."""
    random = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(WORDS)])
    chances = 1 / np.arange(10, WORDS + 10)
    chances /= chances.sum()
    for start in range(0, count, 10_000):
        drawn = random.choice(words, (min(10_000, count - start), 16), p=chances)
        lengths = random.integers(8, 17, len(drawn))
        yield from (" ".join(row[:n]) for row, n in zip(drawn, lengths, strict=True))


def write_model(folder: Path, kind: type, width: int) -> None:
    """One layer with random weights, and a tokenizer of whole words."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *(f"word{i}" for i in range(WORDS))])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, "[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)],
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, model_max_length=128, **names
    ).save_pretrained(folder)
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=width,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=64,
        max_position_embeddings=128,
        num_labels=1,
    )
    kind(config).save_pretrained(folder)


if __name__ == "__main__":
    main()
