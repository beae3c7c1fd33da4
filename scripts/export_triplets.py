"""Write a run's triplets with texts as JSON lines, for other trainers.

    python scripts/export_triplets.py RECIPE

`runs/<name>/triplets.jsonl` has query, positive, negative and label (the teacher's margin), the
columns of sentence-transformers' MarginMSELoss. The triplets are those of the first epoch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.core.files import write_file
from tercet.core.processes import locked
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.steps.model import training_set


def main(recipe: Recipe, flags: Mapping[str, str]) -> None:
    """Write the file. Stages that are missing are run first."""
    pipeline = Pipeline(recipe)
    with locked(recipe.folder):
        train = training_set(pipeline.inputs("model"))
        texts = pipeline.passages.texts(train.passage_ids())
        lines = [
            {
                "query": row["query"],
                "positive": texts[row["positive"]],
                "negative": texts[row["negative"]],
                "label": row["positive_score"] - row["negative_score"],
            }
            for row in train.rows()
        ]
        path = recipe.folder / "triplets.jsonl"
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        write_file(path, text.encode())
    console.print(f"{path}: {len(lines):,} triplets")


if __name__ == "__main__":
    cli.run(main, "scripts/export_triplets.py", "Write triplets with texts for other trainers.")
