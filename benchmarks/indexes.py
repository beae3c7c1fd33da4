"""Recall and speed of approximate search over 100,000 real paragraphs, beside exact search.

    python benchmarks/indexes.py [--passages 100000] [--queries 1000] [--cache benchmarks/.cache]

The paragraphs are docstrings, comments and documentation of the packages installed here; others of
them are the queries. The contenders take turns, so that a machine that slows down slows all.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import re
import sysconfig
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import faiss
import numpy as np
from rich.table import Table

from tercet.core.console import console
from tercet.core.schema import Index, Ranking
from tercet.modeling import BiEncoder
from tercet.retrieval.exact_index import ExactIndex
from tercet.retrieval.faiss_index import FaissIndex

MODEL = "models/all-MiniLM-L6-v2"
K, ROUNDS, SINGLES = 10, 5, 100
PROBES = (8, 16, 32, 64, 128)
EF = 64
INVERTED = {
    "IVF-PQ": "IVF{lists},PQ48",
    "OPQ, IVF-PQ": "OPQ48,IVF{lists},PQ48",
    "fast scan, refined": "IVF{lists},PQ96x4fs,Refine(SQ8)",
}


@dataclass
class Contender:
    """An index as it is searched, and what was measured of it."""

    name: str
    index: Index
    seconds: float
    nprobe: int | None = None
    recall: float = 0.0
    batched: float = 0.0
    single: float = 0.0

    def search(self, queries: np.ndarray) -> list[Ranking]:
        """Its rankings; contenders that differ in `nprobe` alone share an index."""
        if isinstance(self.index, FaissIndex) and self.nprobe:
            found = self.index._index
            faiss.ParameterSpace().set_index_parameter(found, "nprobe", self.nprobe)
        return self.index.search(queries, K)


def main() -> None:
    """Harvest, embed once, build, and time each contender a few times over."""
    options = parse()
    texts = harvest(options.passages + options.queries)
    vectors = embed(texts, options.cache)
    passages, queries = vectors[: options.passages], vectors[options.passages :]
    contenders = build([identity(text) for text in texts], passages)
    expected = contenders[0].search(queries)
    for contender in contenders:
        contender.recall = overlap(contender.search(queries), expected)
    for _ in range(ROUNDS):
        for contender in contenders:
            clock(contender, queries)
    show(contenders, len(passages), len(queries))


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--passages", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--cache", type=Path, default=Path(__file__).with_name(".cache"))
    return parser.parse_args()


def harvest(count: int) -> list[str]:
    """So many distinct paragraphs, those of smallest hash, in the order of their hashes."""
    found: dict[str, str] = {}
    for text in sources(Path(sysconfig.get_paths()["purelib"])):
        for paragraph in re.split(r"\n\s*\n", text):
            paragraph = " ".join(paragraph.split())
            if is_prose(paragraph):
                found.setdefault(paragraph.casefold(), paragraph)
    if len(found) < count:
        raise SystemExit(f"only {len(found)} paragraphs here: ask for fewer --passages")
    by_hash = sorted(found.values(), key=identity)
    console.print(f"{len(found):,} distinct paragraphs, {count:,} of them taken")
    return by_hash[:count]


def sources(folder: Path) -> Iterator[str]:
    """Docstrings, runs of comment lines, and documentation files."""
    for file in sorted(folder.rglob("*")):
        if file.suffix not in (".py", ".md", ".rst", ".txt") and file.name != "METADATA":
            continue
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if file.suffix != ".py":
            yield text
            continue
        yield from docstrings(text)
        yield from comments(text)


def docstrings(source: str) -> Iterator[str]:
    """Those of a Python file; none of one that this Python cannot read."""
    try:
        with warnings.catch_warnings(action="ignore"):
            tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield ast.get_docstring(node) or ""


def comments(source: str) -> Iterator[str]:
    """Each run of lines that are nothing but comment, without its marks."""
    run: list[str] = []
    for line in [*source.splitlines(), ""]:
        if line.lstrip().startswith("#"):
            run.append(line.strip().lstrip("#!:").strip())
        elif run:
            yield "\n".join(run)
            run = []


def is_prose(paragraph: str) -> bool:
    """8 to 200 words, mostly letters: no rules, tables or formulas."""
    letters = sum(character.isalpha() or character == " " for character in paragraph)
    return 8 <= paragraph.count(" ") + 1 <= 200 and letters >= 0.75 * len(paragraph)


def embed(texts: Sequence[str], cache: Path) -> np.ndarray:
    """float32 [len(texts), dimension]; `cache` keeps the vector of every text embedded before."""
    model = BiEncoder.from_pretrained(MODEL)
    file = cache / f"{hashlib.sha256(model.identity.encode()).hexdigest()[:16]}.npz"
    known: dict[str, np.ndarray] = {}
    if file.exists():
        with np.load(file) as stored:
            known = dict(zip(stored["ids"].tolist(), stored["vectors"], strict=True))
    missing = [text for text in texts if identity(text) not in known]
    if missing:
        vectors = model.encode_passages(missing, show_progress="embedding")
        known |= dict(zip(map(identity, missing), vectors, strict=True))
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(file, ids=np.array(list(known)), vectors=np.stack(list(known.values())))
    return np.stack([known[identity(text)] for text in texts])


def identity(text: str) -> str:
    """Its hash."""
    return hashlib.sha256(text.encode()).hexdigest()


def build(ids: Sequence[str], vectors: np.ndarray) -> list[Contender]:
    """Exact search first; inverted lists once for each number of lists that a query reads."""
    ids = ids[: len(vectors)]
    contenders = []
    inverted = {name: FaissIndex(factory) for name, factory in INVERTED.items()}
    named: dict[str, Index] = {
        "exact": ExactIndex(),
        f"HNSW32, ef {EF}": FaissIndex("HNSW32", ef_search=EF),
        **inverted,
    }
    for name, index in named.items():
        start = time.perf_counter()
        index.build(ids, vectors)
        seconds = time.perf_counter() - start
        console.print(f"built {name} in {seconds:.1f} s")
        for nprobe in PROBES if name in inverted else (None,):
            contenders.append(Contender(name, index, seconds, nprobe))
    return contenders


def overlap(rankings: Sequence[Ranking], expected: Sequence[Ranking]) -> float:
    """The mean share of the expected passages that were found: recall@10 of the index."""
    shares = [
        len({id for id, _ in one} & {id for id, _ in other}) / len(other)
        for one, other in zip(rankings, expected, strict=True)
    ]
    return float(np.mean(shares))


def clock(contender: Contender, queries: np.ndarray) -> None:
    """Keep the best rate so far: all queries in one call, and some one by one."""
    start = time.perf_counter()
    contender.search(queries)
    rate = len(queries) / (time.perf_counter() - start)
    contender.batched = max(contender.batched, rate)
    singles = queries[:SINGLES]
    start = time.perf_counter()
    for query in singles:
        contender.search(query[None])
    rate = len(singles) / (time.perf_counter() - start)
    contender.single = max(contender.single, rate)


def show(contenders: Sequence[Contender], passages: int, queries: int) -> None:
    """The table: queries a second, and their ratios to exact search."""
    columns = ["index", "nprobe", "build s", "MB", "recall", "batched", "ratio", "single", "ratio"]
    table = Table(
        *columns,
        title=f"{passages:,} paragraphs, {queries:,} queries, {K} results",
        caption=f"recall@{K} against exact; queries/s, best of {ROUNDS} rounds, ratio to exact",
    )
    exact = contenders[0]
    for one in contenders:
        table.add_row(
            one.name,
            f"{one.nprobe or ''}",
            f"{one.seconds:.1f}",
            f"{(one.index.size().memory or 0) / 1e6:.0f}",
            f"{one.recall:.3f}",
            f"{one.batched:,.0f}",
            f"{one.batched / exact.batched:.1f}",
            f"{one.single:,.0f}",
            f"{one.single / exact.single:.1f}",
        )
    console.print(table)
    console.print(", ".join(f"{name} is {factory}" for name, factory in INVERTED.items()))


if __name__ == "__main__":
    main()
