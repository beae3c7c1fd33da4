"""Adapt a retriever to a corpus that nobody labelled.

    python train.py recipes/quickstart.yaml
    python train.py recipes/quickstart.yaml --forecast
    python train.py recipes/quickstart.yaml --audit
    python train.py recipes/quickstart.yaml --until triplets
    accelerate launch --config_file accelerate_config.yaml train.py recipes/beir.yaml

Corpus -> embeddings -> queries -> negatives -> scores -> triplets -> targets -> Trainer -> report.
The story is `adapt` in src/tercet/commands/adapt.py; each step is a file in
src/tercet/pipeline/steps/ and leaves an artifact under `runs/<name>/`.
"""

from tercet import cli
from tercet.commands.adapt import train

if __name__ == "__main__":
    cli.run(
        train,
        "train.py",
        "Adapt a retriever to the recipe's corpus, and report by how much it got better.",
        {
            "--forecast": "estimate in a minute or two what every step will take, and stop",
            "--audit": "find in minutes whether the teacher is worth learning from, and stop",
            "--yes": "start without asking, however long it takes",
            "--restart": "discard checkpoints of other settings instead of refusing them",
            "--until STEP": "the last step to make: corpus, embeddings, student, queries, "
            "negatives, scores, triplets, targets, model or evaluation",
        },
    )
