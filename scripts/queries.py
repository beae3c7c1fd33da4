"""Passages -> synthetic queries.

    python scripts/queries.py RECIPE

Makes this stage's artefact under `runs/<name>/queries/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("queries"), "scripts/queries.py", (__doc__ or "").partition("\n")[0])
