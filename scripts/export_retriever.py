"""Export a finished run's retriever as one Python file for a LangChain project.

    python scripts/export_retriever.py RECIPE [--out retriever.py] [--hub NAME [--revision REV]]

The file does not need Tercet; its first lines list its dependencies. With --self-test it searches
with some test queries and compares passages and scores with the run. It reads WEAVIATE_URL,
WEAVIATE_GRPC_URL and WEAVIATE_API_KEY, and contains no address or key.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.sharing.retriever import export_retriever

OPTIONS = {
    "--out FILE": "the file to write; default: retriever.py in the run's folder",
    "--hub NAME": "load the model from the Hub; default: from the run's folder",
    "--revision REV": "the model's revision there",
    "--k N": "default number of passages per query; default: 10",
}


def main() -> None:
    """Parse the options of this program; others override the recipe."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hub")
    parser.add_argument("--revision")
    parser.add_argument("--k", type=int, default=10)
    given, sys.argv[1:] = parser.parse_known_args()

    def write(recipe: Recipe, flags: Mapping[str, str]) -> None:
        written = export_retriever(
            recipe, given.out, hub=given.hub, revision=given.revision, k=given.k
        )
        for path in written:
            console.print(f"wrote {path}", markup=False, soft_wrap=True)

    cli.run(write, "scripts/export_retriever.py", "Write a LangChain retriever.", OPTIONS)


if __name__ == "__main__":
    main()
