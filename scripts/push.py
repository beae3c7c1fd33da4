"""A finished run's model, with its card, to the Hugging Face Hub.

    python scripts/push.py RECIPE --repo you/name [--datasets] [--public]

The model is that of `runs/<name>/`, as train.py left it, and its card says what it came to. With
--datasets, the triplets and scores that it learnt from go to `you/name-triplets`, as Parquet; they
hold texts of the corpus. A new repository is private unless --public is given; one that exists
stays what it is. The token is that of HF_TOKEN or of `hf auth login`.
"""

from __future__ import annotations

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.core.processes import locked
from tercet.sharing.hub import push_datasets, push_model

DATASETS = "--datasets"
PUBLIC = "--public"


def main(recipe: Recipe, flags: set[str]) -> None:
    """Push what is asked for; nothing is made anew."""
    private = PUBLIC not in flags and recipe.training.get("hub_private_repo") is not False
    with locked(recipe.folder):
        console.print(f"pushed {push_model(recipe, private=private)}")
        if DATASETS in flags:
            console.print(f"pushed {push_datasets(recipe, private=private)}")


if __name__ == "__main__":
    cli.run(
        main,
        "scripts/push.py",
        (__doc__ or "").partition("\n")[0],
        {
            DATASETS: "also push the triplets and scores, with the texts of their passages, to "
            "NAME-triplets",
            PUBLIC: "for all to see; unset: a new repository is private, and one that exists stays "
            "what it is",
        },
        {"--repo": ("training.hub_model_id", "where to, such as you/name; unset: the run's name")},
    )
