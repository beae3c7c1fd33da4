"""Adapt a retriever to a corpus that nobody labelled: `tercet adapt`.

    python train.py recipes/quickstart.yaml
    python train.py recipes/quickstart.yaml --until triplets
    accelerate launch --config_file accelerate_config.yaml train.py recipes/beir.yaml

Corpus -> embeddings -> queries -> negatives -> scores -> triplets -> targets -> Trainer -> report.
The story is `adapt` in src/tercet/commands/adapt.py; each step is a file in
src/tercet/pipeline/steps/ and leaves an artifact under `runs/<name>/`.
"""

import sys

from tercet.commands.main import main

if __name__ == "__main__":
    main(["adapt", *sys.argv[1:]])
