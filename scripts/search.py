"""`tercet search`: search a finished run, or a live Weaviate collection.

python scripts/search.py runs/NAME "a query" [--collection NAME] [--k 5]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["search", *sys.argv[1:]])
