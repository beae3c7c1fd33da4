"""Candidates -> teacher scores.

    python scripts/scores.py RECIPE

Makes this stage's artefact under `runs/<name>/scores/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("scores"), "scripts/scores.py", (__doc__ or "").partition("\n")[0])
