"""Write runs and relevance judgements in TREC's format."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from tercet.core.files import write_file
from tercet.core.schema import Qrels, Run


def write_run(path: Path, run: Run, tag: str) -> None:
    """Write `query Q0 passage rank score tag` lines, best first; scores with all float32 digits."""
    lines = (
        f"{_token(query)} Q0 {_token(passage)} {rank} {score:.9g} {_token(tag)}\n"
        for query, ranking in run.items()
        for rank, (passage, score) in enumerate(ranking, 1)
    )
    write_file(path, "".join(lines).encode())


def write_qrels(path: Path, qrels: Qrels) -> None:
    """Write `query 0 passage grade` lines."""
    lines = (
        f"{_token(query)} 0 {_token(passage)} {grade}\n"
        for query, grades in qrels.items()
        for passage, grade in grades.items()
    )
    write_file(path, "".join(lines).encode())


def _token(text: str) -> str:
    """The text with whitespace and "%" percent-encoded: %20 for a space."""
    return "".join(
        quote(letter) if letter.isspace() or letter == "%" else letter for letter in text
    )
