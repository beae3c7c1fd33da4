"""Search a live Weaviate collection with a model that train.py adapted to its vectors.

    python scripts/search.py runs/NAME/model COLLECTION "a query" "another" [--vector NAME] [--k 5]

A query encoder that was adapted to the vectors of another collection is refused.
"""

from __future__ import annotations

import argparse

from rich.table import Table

from tercet import InputError
from tercet.cli import stop
from tercet.core.console import console
from tercet.serving.search import live_retriever


def main() -> None:
    """Search and print the rankings."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", help="folder or Hub name of a run's model")
    parser.add_argument("collection", help="Weaviate collection or alias")
    parser.add_argument("queries", nargs="+", metavar="query")
    parser.add_argument("--vector", help="the named vector; default: the only one")
    parser.add_argument("--id", help="the property with the passages' ids, or uuid")
    parser.add_argument("--k", type=int, default=5, help="passages per query")
    given = parser.parse_args()
    try:
        retriever = live_retriever(given.model, given.collection, vector=given.vector, id=given.id)
        for query, ranking in zip(
            given.queries, retriever.search(given.queries, given.k), strict=True
        ):
            table = Table("passage", "score", title=query, title_justify="left")
            for passage, score in ranking:
                table.add_row(passage, f"{score:.4f}")
            console.print(table)
    except InputError as error:
        stop(str(error), 2)


if __name__ == "__main__":
    main()
