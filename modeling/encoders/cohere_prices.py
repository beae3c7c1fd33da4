"""What Cohere's embedding models cost, and the one that is no more. No SDK is needed here."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable

from tercet.core.schema import InputError

_BYTES_PER_TOKEN = 3  # prose has more in most scripts: a forecast errs on the dear side
#: Model -> widths, the first being what the API gives unasked; dollars a million tokens.
#: Prices read on 2026-11-25; of v3 none is listed any more, and these are the last ones.
MODELS = {
    "embed-v4.0": ((1536, 1024, 512, 256), 0.12),
    "embed-multilingual-v3.0": ((1024,), 0.10),
    "embed-multilingual-light-v3.0": ((384,), 0.10),
    "embed-english-v3.0": ((1024,), 0.10),
    "embed-english-light-v3.0": ((384,), 0.10),
}
RETIRED = ("embed-multilingual-v2.0", "multilingual-22-12")
_SUCCESSORS = ("embed-multilingual-v3.0", "embed-v4.0")


def refuse_retired(model: str, passages: Iterable[str] = ()) -> None:
    """Raise InputError if `model` is the one of Cohere's 22-12 vectors, naming the ways on.

    The price that it forecasts is that of embedding `passages` anew; of a million without them.
    """
    if model not in RETIRED:
        return
    tokens = sum(map(tokens_of, passages))
    of = "these passages" if tokens else "a million passages of 100 tokens"
    dollars = {name: (tokens or 10**8) / 1e6 * MODELS[name][1] for name in _SUCCESSORS}
    prices = " or ".join(f"{name}, about {money(price)}" for name, price in dollars.items())
    raise InputError(
        f"{model}, the space of Cohere's 22-12 vectors, was retired on 2026-04-04: no new text can "
        "be embedded in it. Three ways on: the precomputed query vectors of the -queries-22-12 "
        "datasets, which work without a key; embedding corpus and queries anew with a v3 or v4 "
        f"model ({prices} for {of}); or an adapted query encoder, trained to place queries among "
        "the vectors that are there"
    )


def money(dollars: float) -> str:
    """Dollars as people write them."""
    return f"${dollars:,.2f}" if dollars >= 0.1 or not dollars else f"${dollars:.2g}"


def tokens_of(text: str) -> int:
    """About how many tokens a text is billed as: rather too many."""
    return math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)


def most_tokens(texts: Iterable[str]) -> int:
    """A bound: but for two at its ends, a token has a byte of the text or of its NFKC form."""
    forms = ((text, unicodedata.normalize("NFKC", text)) for text in texts)
    return sum(2 + max(len(form.encode()) for form in pair) for pair in forms)
