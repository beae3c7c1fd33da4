"""Prices of Cohere's embedding models, and its retired model. Needs no SDK."""

from __future__ import annotations

from collections.abc import Iterable

from tercet.core.schema import InputError
from tercet.modeling.api_account import money, tokens_of

#: Model -> dimensions, the API's default first, and dollars per million tokens.
#: Prices as of 2026-11-25; those of v3 are no longer listed, and are the last ones.
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
    """Raise InputError, with the alternatives, if `model` is that of Cohere's 22-12 vectors.

    The message has the price of embedding `passages` again, or a million passages without them.
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
