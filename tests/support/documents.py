"""The code blocks of README.md and docs/, and a folder in which they can be executed."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from programs import ROOT

#: Languages of the blocks; what is `text` is output or a picture, and is not executed.
LANGUAGES = {"bash", "python", "yaml", "toml", "text", "pycon"}


@dataclass(frozen=True)
class Block:
    """A fenced block: its page, the line of its fence, its language and its text."""

    page: str
    line: int
    language: str
    text: str

    @property
    def first(self) -> str:
        """Its first line, by which the lists of exceptions name it."""
        return self.text.strip().splitlines()[0] if self.text.strip() else ""

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.first}"


def pages() -> list[Path]:
    """README.md and the pages of docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(path: Path) -> list[Block]:
    """The blocks of a page in their order, indented ones too."""
    found, opened = [], None
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence = re.match(r"( *)```(.*)$", line)
        if opened is None and fence:
            opened = (number, len(fence[1]), fence[2].strip(), [])
        elif opened and fence and not fence[2].strip():
            start, _, language, lines = opened
            page = path.relative_to(ROOT).as_posix()
            language = "bash" if language == "sh" else language
            found.append(Block(page, start, language, "\n".join(lines) + "\n"))
            opened = None
        elif opened:
            opened[3].append(line[opened[1] :])
    assert opened is None, f"{path}: the block of line {opened[0]} has no end"
    return found


def lay_out(folder: Path, models: dict[str, Path], beir: Path) -> None:
    """Put what the pages speak of into `folder`: models by their names, a corpus, clicks.

    `models` maps names to folders; a folder of a Hub name's path is found before the Hub is asked.
    `beir` is a judged folder in BEIR's layout, from which articles.csv and clicks.csv are made.
    """
    for name, model in models.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(model)
    (folder / "FOLDER").symlink_to(beir)
    rows = [json.loads(line) for line in (beir / "corpus.jsonl").open()]
    articles = [(row["_id"], row["title"], row["text"]) for row in rows]
    _write(folder / "articles.csv", [("id", "title", "text"), *articles])
    asked = {row["_id"]: row["text"] for row in map(json.loads, (beir / "queries.jsonl").open())}
    judged = (beir / "qrels" / "test.tsv").read_text().splitlines()[1:]
    clicks = [(asked[query], passage) for query, passage, _ in map(str.split, judged)]
    _write(folder / "clicks.csv", [("query", "id"), *clicks])
    _write_embedded(folder, articles)
    for name in ("train.py", "accelerate_config.yaml", "examples", "retrieval", "scripts"):
        (folder / name).symlink_to(ROOT / name)


def _write_embedded(folder: Path, articles: list[tuple[str, str, str]]) -> None:
    """A table with vectors, and the recipe that docs/guides/index.md has for it."""
    vectors = np.random.default_rng(3).normal(size=(len(articles), 16)).astype(np.float32)
    ids, _, texts = zip(*articles, strict=True)
    table = pa.table({"id": list(ids), "text": list(texts), "emb": list(vectors)})
    pq.write_table(table, folder / "embedded.parquet")
    page = ROOT / "docs/guides/index.md"
    (recipe,) = [b.text for b in blocks(page) if "embedded.parquet" in b.text]
    (folder / "embedded.yaml").write_text(f"name: embedded\n{recipe}")


def _write(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
