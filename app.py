"""The studio: recipes, runs, data, results, search and chat on one page.

    python app.py [--port 7860]

It is `tercet studio` for the folder of this file.
"""

import sys
from pathlib import Path

from tercet.commands.main import main

if __name__ == "__main__":
    main(["studio", "--root", str(Path(__file__).parent), *sys.argv[1:]])
