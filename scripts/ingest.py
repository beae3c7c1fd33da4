"""`tercet ingest`: write the vectors of a corpus to a live Weaviate collection.

python scripts/ingest.py RECIPE [--ingest.collection NAME]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["ingest", *sys.argv[1:]])
