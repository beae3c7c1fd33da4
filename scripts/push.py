"""`tercet push`: push a finished run's model with its card to the Hugging Face Hub.

python scripts/push.py RECIPE --repo you/name [--datasets] [--public]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["push", *sys.argv[1:]])
