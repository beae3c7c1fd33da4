"""Which shapes of models are read, and whether as sentence-transformers reads them.

    python benchmarks/shapes.py [FILE.md]

Every model is tiny, with random weights (`shape_models.py`, `shape_writers.py`). Of an embedding
model that is read, three differences are shown, the largest of any number of any vector, in unit
length where cosine compares: of the base's vectors from those of sentence-transformers, one text at
a time; of its vectors after one step of training from those of sentence-transformers and those of
the model card's own code, both from the saved folder and all texts in one batch. A generator is
read if its likeliest tokens are those of transformers' own loop, each prompt alone. What is refused
is refused in one line.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from shape_models import EMBEDDINGS, REFUSED, TEXTS, Maker

from tercet.config.recipe import Recipe
from tercet.core.schema import InputError
from tercet.modeling import BiEncoder
from tercet.sharing.snippets import ANY_NAME, snippets

#: The largest difference of a number of a vector that counts as none.
EQUAL = 1e-5
_KINDS = ("embedding models are read", "refused", "generators are read", "generators are refused")
_BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Read:
    """The differences of one shape, the largest of any number; None where there is no such code."""

    base: float
    adapted: float
    card: float | None

    @property
    def equal(self) -> bool:
        """Whether none is a difference."""
        return max(self.base, self.adapted, self.card or 0.0) <= EQUAL


def main() -> None:
    """Write the tables, to a file if one is named; exit with 1 if a shape is read otherwise."""
    from shape_writers import WRITERS, WRITERS_REFUSED, read_writer, refuse_writer

    lines = ["## Embedding models that are read", ""]
    lines += ["| shape | base | adapted | card's code |", "|---|---|---|---|"]
    as_told: dict[str, list[bool]] = {kind: [] for kind in _KINDS}
    for name, make in _shown(EMBEDDINGS):
        row, ok = _row(lambda make=make: read(make))
        lines += [f"| {name} | {row} |"]
        as_told["embedding models are read"] += [ok]
    lines += ["", "## Embedding models that are refused", "", "| shape | the line |", "|---|---|"]
    for name, (make, named) in _shown(REFUSED):
        line = refused(make)
        lines += [f"| {name} | {line or 'IT IS READ'} |"]
        as_told["refused"] += [line is not None and named in line]
    lines += ["", "## Generators that are read", "", "| shape | how |", "|---|---|"]
    for name, (make, kind) in _shown(WRITERS):
        row, ok = _row(lambda make=make, kind=kind: read_writer(make, kind))
        lines += [f"| {name} | {row} |"]
        as_told["generators are read"] += [ok]
    lines += ["", "## Generators that are refused", "", "| shape | the line |", "|---|---|"]
    for name, (make, kind, named) in _shown(WRITERS_REFUSED):
        line = refuse_writer(make, kind)
        lines += [f"| {name} | {line or 'IT IS READ'} |"]
        as_told["generators are refused"] += [line is not None and named in line]
    counts = ", ".join(f"{sum(oks)} of {len(oks)} {kind}" for kind, oks in as_told.items())
    wrong = sum(not ok for oks in as_told.values() for ok in oks)
    text = "\n".join(["# Shapes of models", "", f"{counts}.", "", *lines]) + "\n"
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text, encoding="utf-8")
    print(text if len(sys.argv) < 2 else counts)
    sys.exit(wrong > 0)


def _shown(shapes: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, shape in shapes.items():
        print(name, file=sys.stderr, flush=True)
        yield name, shape


def _row(work: Callable[[], Any]) -> tuple[str, bool]:
    try:
        found = work()
    except Exception as error:
        return f"FAILS: {type(error).__name__}: {str(error).splitlines()[0][:160]} | |", False
    if isinstance(found, str):
        return found, True
    card = "none" if found.card is None else f"{found.card:.0e}"
    return f"{found.base:.0e} | {found.adapted:.0e} | {card}", found.equal


# ── embedding models ──────────────────────────────────────────────────────────────────────────────


def read(make: Maker) -> Read:
    """Read a shape, compare, train one step, save, compare. Raises InputError if it is refused."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        base, adapted = Path(folder) / "model", Path(folder) / "adapted"
        make(base)
        theirs = SentenceTransformer(str(base), device="cpu")
        encoder = BiEncoder.from_pretrained(base, precision="fp32", device="cpu")
        before = _difference(encoder, both(theirs, alone=True))
        train_a_step(encoder)
        encoder.save_pretrained(adapted)
        after = _difference(encoder, both(SentenceTransformer(str(adapted), device="cpu")))
        code = card_code(adapted)
        card = _difference(encoder, by_card(code, adapted)) if code else None
        again = BiEncoder.from_pretrained(adapted, precision="fp32", device="cpu")
        assert again.config == encoder.config, f"{again.config} is not {encoder.config}"
        return Read(before, after, card)


def refused(make: Maker) -> str | None:
    """The line with which a shape is refused; None if it is read."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        make(Path(folder) / "model")
        try:
            BiEncoder.from_pretrained(Path(folder) / "model", device="cpu")
        except InputError as error:
            return str(error).replace(folder, "").replace("|", "\\|")
    return None


def both(theirs: Any, *, alone: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """sentence-transformers' vectors of queries and passages, in one batch or each text `alone`.

    Where padding on the left moves positions, its vectors depend on a text's neighbours.
    """
    if not alone:
        return theirs.encode_query(list(TEXTS)), theirs.encode_document(list(TEXTS))
    return (
        np.stack([theirs.encode_query(text) for text in TEXTS]),
        np.stack([theirs.encode_document(text) for text in TEXTS]),
    )


def _difference(encoder: BiEncoder, expected: tuple[np.ndarray, np.ndarray]) -> float:
    """The largest difference; of vectors of unit length where they compare by cosine."""
    found = encoder.encode_queries(TEXTS), encoder.encode_passages(TEXTS)
    if encoder.normalize:
        first, second = (each / np.linalg.norm(each, axis=1, keepdims=True) for each in expected)
        expected = first, second
    pairs = zip(found, expected, strict=True)
    return float(max(np.abs(ours - theirs).max() for ours, theirs in pairs))


def train_a_step(encoder: BiEncoder, rate: float = 1e-2) -> None:
    """Move every weight a little: queries towards the first passage, away from the others."""
    learned = [weight for weight in encoder.trained.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learned, lr=rate)
    encoder.trained.train()
    encoder.set_dropout(0.0)
    kinds = ("query", "passage")
    sides = [encoder.collate(encoder.tokenize(TEXTS, kind), kind) for kind in kinds]
    queries, passages = (encoder.embed(encoder.trained, side) for side in sides)
    scores = queries @ passages.T
    torch.nn.functional.cross_entropy(scores, torch.zeros(len(TEXTS), dtype=torch.int64)).backward()
    torch.nn.utils.clip_grad_norm_(learned, 1.0)
    optimizer.step()
    encoder.trained.eval()


def card_code(folder: Path) -> str | None:
    """The model card's code for transformers, if the card has any."""
    text = "\n".join(snippets(folder, Recipe()))
    blocks = [code for code in _BLOCK.findall(text) if "AutoTokenizer" in code]
    return blocks[0].replace(ANY_NAME, str(folder)) if blocks else None


def by_card(code: str, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Vectors of queries and passages by the card's code, all texts of a kind in one batch."""
    names: dict[str, Any] = {}
    code = code.replace('["a question"]', repr(list(TEXTS))).replace(
        '["a passage"]', repr(list(TEXTS))
    )
    with patch("huggingface_hub.hf_hub_download", lambda name, file: str(Path(name) / file)):
        exec(code, names)
    return names["queries"].numpy(), names["passages"].numpy()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


if __name__ == "__main__":
    main()
