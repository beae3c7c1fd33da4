"""Export a finished run as a Hugging Face Space that searches its passages and shows its results.

    python scripts/make_space.py RECIPE [--out FOLDER] [--hub NAME [--revision REV]]
    python scripts/make_space.py RECIPE --push you/name [--public]

The folder runs without Tercet (`pip install -r requirements.txt`, `python app.py`). It contains
the texts of the corpus. A new Space is private unless --public is given; an existing one keeps its
visibility. The token is that of HF_TOKEN or of `hf auth login`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tercet import InputError, Recipe, cli
from tercet.core.console import console
from tercet.core.text import bytes_text
from tercet.sharing.space import push_space, write_space

OPTIONS = {
    "--out FOLDER": "the folder to write; default: space in the run's folder",
    "--hub NAME": "load the model from the Hub; default: copy it",
    "--revision REV": "the model's revision there",
    "--push NAME": "push it to a Space such as you/name",
    "--public": "make a new Space public; default: private. An existing one keeps its visibility",
    "--large": "write more than the Hub accepts (1 GB)",
}


def main() -> None:
    """Parse the options of this program; others override the recipe."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hub")
    parser.add_argument("--revision")
    parser.add_argument("--push", metavar="NAME")
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--large", action="store_true")
    given, sys.argv[1:] = parser.parse_known_args()

    def write(recipe: Recipe, flags: Mapping[str, str]) -> None:
        if given.public and not given.push:
            raise InputError("--public needs --push: give --push you/name too")
        if given.revision and not given.hub:
            raise InputError("--revision needs --hub: give --hub NAME too")
        folder = given.out or recipe.folder / "space"
        size = write_space(
            recipe, folder, hub=given.hub, revision=given.revision, large=given.large
        )
        console.print(f"wrote {folder}, {bytes_text(size)}", markup=False, soft_wrap=True)
        if given.push:
            address = push_space(folder, given.push, private=not given.public)
            console.print(f"pushed {address}", markup=False, soft_wrap=True)

    cli.run(write, "scripts/make_space.py", "Write, and push, a Hugging Face Space.", OPTIONS)


if __name__ == "__main__":
    main()
