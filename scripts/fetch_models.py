"""Bring the models and the corpus of the offline recipes, and link them under models/ and corpora/.

    python scripts/fetch_models.py

They are in the user's cache; `tercet demo --fetch` brings those that the demo needs.
"""

import sys
from pathlib import Path

from tercet import InputError
from tercet.commands.fetch import DEMO, OTHERS, fetch, link

if __name__ == "__main__":
    try:
        for place in fetch([*DEMO, *OTHERS]):
            link(place, Path(__file__).parents[1])
    except InputError as error:
        sys.exit(f"error: {error}")
