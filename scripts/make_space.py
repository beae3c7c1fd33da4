"""A finished run -> a Hugging Face Space that searches its passages and tells its figures.

    python scripts/make_space.py RECIPE [--out FOLDER] [--hub NAME [--revision REV]]
    python scripts/make_space.py RECIPE --push you/name [--public]

The folder runs anywhere (`pip install -r requirements.txt`, `python app.py`), without Tercet. It
holds the texts of the corpus, and so does a Space that is pushed: a new one is private unless
--public is given, and one that exists stays what it is. The token is that of HF_TOKEN or of
`hf auth login`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tercet import InputError, Recipe, cli
from tercet.core.console import console
from tercet.sharing.space import push_space, write_space

OPTIONS = {
    "--out FOLDER": "the folder to write; unset: space in the run's folder",
    "--hub NAME": "load the model by its name on the Hub; unset: it is copied",
    "--revision REV": "the model's revision there",
    "--push NAME": "push it, to a Space such as you/name",
    "--public": "for all to see; unset: a new Space is private, and one that exists stays what it "
    "is",
    "--large": "write more than the Hub takes",
}


def main() -> None:
    """Take the options of this program; the rest is the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hub")
    parser.add_argument("--revision")
    parser.add_argument("--push", metavar="NAME")
    parser.add_argument("--public", action="store_true")
    parser.add_argument("--large", action="store_true")
    given, sys.argv[1:] = parser.parse_known_args()

    def write(recipe: Recipe, flags: set[str]) -> None:
        if given.public and not given.push:
            raise InputError("--public says how to push: give --push you/name too")
        if given.revision and not given.hub:
            raise InputError("--revision is one of the Hub: give --hub NAME too")
        folder = given.out or recipe.folder / "space"
        size = write_space(
            recipe, folder, hub=given.hub, revision=given.revision, large=given.large
        )
        console.print(f"wrote {folder}, {size / 1e6:,.1f} MB", markup=False, soft_wrap=True)
        if given.push:
            address = push_space(folder, given.push, private=not given.public)
            console.print(f"pushed {address}", markup=False, soft_wrap=True)

    cli.run(write, "scripts/make_space.py", "Write, and push, a Hugging Face Space.", OPTIONS)


if __name__ == "__main__":
    main()
