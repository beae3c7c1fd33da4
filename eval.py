"""Compare retrieval systems over indexes: the adapted model, its base, BM25 and others.

    python eval.py recipes/experiment.yaml --corpus.path FOLDER

It is `tercet eval`. `evaluation.systems` and `evaluation.indexes` list what is compared. Each
system searches each index with the recipe's test queries and is timed; metrics get bootstrap
intervals, and all pairs of systems a significance test. Everything is written to `results/` in the
run's folder: start with report.html. The steps are in `tercet.commands.evaluate`.
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["eval", *sys.argv[1:]])
