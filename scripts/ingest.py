"""The vectors that a corpus carries -> a live Weaviate collection, under a name of their own.

    python scripts/ingest.py RECIPE [--ingest.collection NAME]

The recipe's corpus is a table whose `corpus.passages.vector` names a column. Killed, it goes on
where it was; run again when all is there, it writes nothing.
"""

from tercet import cli
from tercet.pipeline.ingest import ingest

if __name__ == "__main__":
    cli.run(ingest, "scripts/ingest.py", (__doc__ or "").partition("\n")[0])
