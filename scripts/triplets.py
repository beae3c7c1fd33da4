"""Teacher scores -> the lists that training draws its triplets from.

    python scripts/triplets.py RECIPE

Makes this stage's artefact under `runs/<name>/triplets/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("triplets"), "scripts/triplets.py", (__doc__ or "").partition("\n")[0])
