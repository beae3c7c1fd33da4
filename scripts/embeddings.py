"""Passages -> vectors of the model as it came.

    python scripts/embeddings.py RECIPE

Makes this stage's artefact under `runs/<name>/embeddings/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("embeddings"), "scripts/embeddings.py", (__doc__ or "").partition("\n")[0])
