"""`tercet chat`: answer questions from a finished run's passages, citing passages.

python scripts/chat.py RECIPE [--question "a question" ...]
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["chat", *sys.argv[1:]])
