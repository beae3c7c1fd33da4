"""`tercet export --to triplets`: a run's triplets with texts, for other trainers.

python scripts/export_triplets.py RECIPE
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["export", "--to=triplets", *sys.argv[1:]])
