"""Write the vectors of a corpus to a live Weaviate collection as a named vector.

    python scripts/ingest.py RECIPE [--ingest.collection NAME]

`corpus.passages.vector` is the column of the recipe's table with the vectors. A killed run
resumes; if all vectors are there, nothing is written.
"""

from tercet import cli
from tercet.pipeline.ingest import ingest

if __name__ == "__main__":
    cli.run(ingest, "scripts/ingest.py", (__doc__ or "").partition("\n")[0])
