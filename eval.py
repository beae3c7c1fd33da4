"""Compare retrieval systems over indexes: the adapted model, its base, BM25 and others.

    python eval.py recipes/experiment.yaml --corpus.path FOLDER

`evaluation.systems` and `evaluation.indexes` list what is compared, by default BM25, the base and
the adapted model over exact search and the recipe's own index. Each system searches each index with
the recipe's test queries and is timed; metrics get bootstrap intervals, and all pairs of systems a
significance test. Everything is written to `results/` in the run's folder: start with report.html.
The steps are in `tercet.commands.evaluate`, the systems in `tercet.evaluation.systems`.
"""

from tercet import cli
from tercet.commands.evaluate import evaluate

if __name__ == "__main__":
    cli.run(evaluate, "eval.py", "Compare systems over indexes, on the recipe's test queries.")
