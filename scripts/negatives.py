"""Queries -> candidates that retrievers confuse with each query's passage.

    python scripts/negatives.py RECIPE

Makes this stage's artefact under `runs/<name>/negatives/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("negatives"), "scripts/negatives.py", (__doc__ or "").partition("\n")[0])
