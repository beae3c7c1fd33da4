"""Strings of faiss's `index_factory` as people write them: mended, and tried before any work.

Some strings end the process, some compare by another metric than they are asked to, and some rank
nothing. faiss says none of it.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

from tercet.core.schema import InputError
from tercet.core.text import one_line

_WORDS = ("Flat", "HNSW", "IVF", "PQ", "SQ", "OPQ", "PCA", "PCAR", "PCAW", "Refine", "RFlat", "IMI")
_CASE = {word.lower(): word for word in (*_WORDS, "NSG", "LSH", "ITQ", "L2norm", "IDMap", "RR")}
_SECONDS = 60.0  # for a trial; a string that takes longer is built all the same
#: What a trial prints before the reason why it refuses a string.
_REFUSED = "refused: "


def mended(factory: str) -> str:
    """The string without blanks and `IDMap,` (ids are kept beside the index), words in their case.

    >>> mended("ivf16 , flat"), mended("IDMap2,hnsw32"), mended("IVF{lists},PQ96x4fs,Refine(SQ8)")
    ('IVF16,Flat', 'HNSW32', 'IVF{lists},PQ96x4fs,Refine(SQ8)')
    """
    plain = re.sub(r"\s+", "", factory)
    plain = re.sub(r"[A-Za-z]+2?norm|[A-Za-z]+", _in_case, plain)
    return re.sub(r"^IDMap2?,|,IDMap2?$", "", plain)


def _in_case(word: re.Match[str]) -> str:
    return _CASE.get(word[0].lower(), word[0])


@cache
def check_factory(factory: str, dimension: int) -> None:
    """Try a string in a process of its own, on a few hundred vectors. Raises InputError.

    It is refused if it cannot be parsed, compares by another metric than the inner product, or ends
    the process. What depends on the vectors, as too few to train on, is found when it is built.
    """
    if factory == "Flat":
        return
    try:
        tried = subprocess.run(
            [
                sys.executable,
                str(Path(__file__).with_name("faiss_trial.py")),
                factory,
                f"{dimension}",
            ],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return
    if tried.returncode:
        raise InputError(
            f"index.factory: faiss ends the process with {factory!r} (code {tried.returncode}): "
            "choose HNSW32 or Flat"
        )
    reason = next((s for s in tried.stdout.splitlines() if s.startswith(_REFUSED)), "")
    if reason:
        said = one_line(reason.removeprefix(_REFUSED))
        raise InputError(f"index.factory {factory!r}: {said}: choose HNSW32 or Flat")
