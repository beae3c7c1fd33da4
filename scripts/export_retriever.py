"""`tercet export --to langchain`: a finished run's retriever as one Python file.

python scripts/export_retriever.py RECIPE [--out retriever.py] [--hub NAME [--revision REV]]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["export", "--to=langchain", *sys.argv[1:]])
