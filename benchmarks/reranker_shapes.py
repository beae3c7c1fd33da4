"""Which rerankers are read as a teacher, and whether their scores are those of their makers.

    python benchmarks/reranker_shapes.py [FILE]

Writes a Markdown table, to FILE or the terminal. The rerankers are tiny, with random weights, made
by transformers and sentence-transformers (`tests/support/reranker_folders.py`). What is read is
compared, each pair alone and in a batch, with sentence-transformers' `CrossEncoder.predict` before
its activation, or with the formula that its authors published; what is not read is refused in a
line. Exits with 1 if a score differs by more than 1e-5 or a folder is read that should not be.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import transformers

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

from huggingface_hub.utils import disable_progress_bars
from reranker_folders import PAIRS, READ, REFUSED, Shape, expected

from tercet.core.schema import InputError
from tercet.modeling import CrossEncoderTeacher

#: Largest difference, relative to 1 + the score.
BOUND = 1e-5
LENGTH = 200  # tokens: no pair is cut


def main() -> None:
    """The table, and how many of each."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    disable_progress_bars()
    transformers.logging.disable_progress_bar()
    rows, faults = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for number, (name, shape) in enumerate((READ | REFUSED).items()):
            outcome, right = row_of(shape, Path(folder) / str(number))
            faults += not right
            rows.append(f"| {name} | {outcome}{'' if right else ' **wrong**'} |")
            print(rows[-1], file=sys.stderr)
    text = "\n".join(
        [
            f"{len(READ)} rerankers are read, {len(REFUSED)} refused, {faults} wrong.",
            "",
            "| reranker | largest difference of a score, or why it is refused |",
            "|---|---|",
            *rows,
        ]
    )
    if len(sys.argv) > 1:
        Path(sys.argv[1]).write_text(text + "\n", encoding="utf-8")
    else:
        print(text)
    sys.exit(faults > 0)


def row_of(shape: Shape, folder: Path) -> tuple[str, bool]:
    """A row's second cell, and whether it is as it should be."""
    folder.mkdir()
    shape.make(folder)
    try:
        teacher = CrossEncoderTeacher.from_pretrained(
            folder, precision="fp32", device="cpu", max_length=LENGTH, asked=shape.asked
        )
    except InputError as error:
        said = str(error).replace(str(folder), "FOLDER").replace("|", "\\|")
        return said, not shape.read and "\n" not in said and shape.reference in str(error)
    if not shape.read:
        return "read", False
    theirs = expected(shape, folder, PAIRS)
    ours = teacher.score(PAIRS)
    difference = float((np.abs(ours - theirs) / (1 + np.abs(theirs))).max())
    told = f", {teacher.reading}" if teacher.reading else ""
    spread = float(theirs.std())
    right = difference < BOUND and spread > 1e-3
    by = "" if shape.reference == "sentence-transformers" else f" from {shape.reference}'s formula"
    return f"{difference:.0e}{by}{told}".replace("|", "\\|"), right


if __name__ == "__main__":
    main()
