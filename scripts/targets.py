"""Both models' scores -> the score that each stored pair should get.

    python scripts/targets.py RECIPE

Makes this stage's artefact under `runs/<name>/targets/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("targets"), "scripts/targets.py", (__doc__ or "").partition("\n")[0])
