"""Push a finished run's model with its card to the Hugging Face Hub.

    python scripts/push.py RECIPE --repo you/name [--datasets] [--public]

With --datasets, the training triplets and scores go to `you/name-triplets` as Parquet; they contain
texts of the corpus. A new repository is private unless --public is given; an existing one keeps its
visibility. The token is that of HF_TOKEN or of `hf auth login`.
"""

from __future__ import annotations

from collections.abc import Mapping

from tercet import Recipe, cli
from tercet.core.console import console
from tercet.core.processes import locked
from tercet.sharing.hub import push_datasets, push_model

DATASETS = "--datasets"
PUBLIC = "--public"


def main(recipe: Recipe, flags: Mapping[str, str]) -> None:
    """Push the model, and the datasets with --datasets; no stage is run."""
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
            DATASETS: "also push the triplets and scores, with texts of passages, to NAME-triplets",
            PUBLIC: "make a new repository public; default: private. An existing one keeps its "
            "visibility",
        },
        {
            "--repo": (
                "training.hub_model_id",
                "the repository, such as you/name; default: the run's name",
            )
        },
    )
