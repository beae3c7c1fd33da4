"""A finished run -> one Python file with its retriever, for a LangChain project.

    python scripts/export_retriever.py RECIPE [--out retriever.py] [--hub NAME [--revision REV]]

The file needs no Tercet; its first lines name what it needs. `python retriever.py --self-test`
asks test queries that it keeps, and compares passages and scores with those of the run. A Weaviate
server is found by WEAVIATE_URL, WEAVIATE_GRPC_URL and WEAVIATE_API_KEY: no address or key is
written.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.sharing.retriever import export_retriever

OPTIONS = {
    "--out FILE": "the file to write; unset: retriever.py in the run's folder",
    "--hub NAME": "load the model by its name on the Hub; unset: from the run's folder",
    "--revision REV": "the model's revision there",
    "--k N": "passages that it finds unless told otherwise; unset: 10",
}


def main() -> None:
    """Take the options of this program; the rest is the recipe's."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--hub")
    parser.add_argument("--revision")
    parser.add_argument("--k", type=int, default=10)
    given, sys.argv[1:] = parser.parse_known_args()

    def write(recipe: Recipe, flags: set[str]) -> None:
        written = export_retriever(
            recipe, given.out, hub=given.hub, revision=given.revision, k=given.k
        )
        for path in written:
            console.print(f"wrote {path}", markup=False, soft_wrap=True)

    cli.run(write, "scripts/export_retriever.py", "Write a LangChain retriever.", OPTIONS)


if __name__ == "__main__":
    main()
