"""A source -> passages, queries and judgements, checked.

    python scripts/corpus.py RECIPE

Makes this stage's artefact under `runs/<name>/corpus/`, and those before it that are missing.
"""

from tercet import cli
from tercet.pipeline.pipeline import only

if __name__ == "__main__":
    cli.run(only("corpus"), "scripts/corpus.py", (__doc__ or "").partition("\n")[0])
