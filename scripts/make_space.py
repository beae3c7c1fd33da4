"""`tercet space`: export a finished run as a Hugging Face Space.

python scripts/make_space.py RECIPE [--out FOLDER] [--hub NAME [--revision REV]]
python scripts/make_space.py RECIPE --push you/name [--public]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["space", *sys.argv[1:]])
