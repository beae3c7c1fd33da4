# /// script
# requires-python = ">=3.11"
# dependencies = ["tercet"]
# ///
"""Adapt a model to a CSV file, in one file that brings its own dependencies.

    uv run examples/adapt.py articles.csv
    uv run examples/adapt.py articles.csv clicks.csv

articles.csv has the columns id and text (title too, if you like); clicks.csv has query and id.
"""

import csv
import sys

import tercet


def rows(path: str) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def main(articles: str, clicks: str | None = None) -> None:
    """Adapt, and print the verdict."""
    judged: dict[str, list[str]] = {}
    for row in rows(clicks) if clicks else []:
        judged.setdefault(row["query"], []).append(row["id"])
    run = tercet.adapt(
        rows(articles),
        model="sentence-transformers/all-MiniLM-L6-v2",
        judged=judged or None,
        name="example",
    )
    print(run.verdict)
    print(f"the model: {run.folder / 'model'}")


if __name__ == "__main__":
    main(*sys.argv[1:])
