"""A finished run to the Hub: its model with its card, and the lists that it learnt from."""

from __future__ import annotations

from pathlib import Path

from tercet import data
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, existing
from tercet.core.files import write_file
from tercet.core.schema import InputError
from tercet.modeling.hub import CARD, files_of, push_files
from tercet.reports.markdown import escape, shown, table
from tercet.sharing.datasets import write_published
from tercet.sharing.model_card import stamp, writers
from tercet.sharing.snippets import ANY_NAME

#: Files of the `model` artefact that are about the run, and no part of the model.
OF_THE_RUN = ("choices-", "history.json", CARD)
#: A dataset's name on the Hub is its model's with this.
DATASETS = "-triplets"
#: Upper ends of the Hub's classes of sizes.
SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def repo_of(recipe: Recipe) -> str:
    """Where the recipe's model goes on the Hub; a name without an owner is the token's owner's."""
    return str(recipe.training.get("hub_model_id") or recipe.name)


def push_model(recipe: Recipe, *, private: bool | None) -> str:
    """Push the run's model and card; the commit's address.

    `private` None: as the account's new repositories are. Raises InputError for a run that is not
    finished, or whose card is of another model.
    """
    model, repo = _finished(recipe, "model"), repo_of(recipe)
    model.verify()
    text = own_card(recipe)
    files: dict[str, Path | bytes] = dict(model_files(model))
    files[CARD] = text.replace(ANY_NAME, repo).encode()
    return push_files(
        files,
        repo,
        private=private,
        revision=recipe.training.get("hub_revision"),
        message="A retriever adapted with Tercet",
    )


def own_card(recipe: Recipe) -> str:
    """The run's card. Raises InputError where it is of another model, or not there."""
    model, card = _finished(recipe, "model"), recipe.folder / CARD
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    if stamp(model, _finished(recipe, "evaluation")) not in text:
        raise InputError(f"{card} is not the card of {model.path}: {_again(recipe)}")
    return text


def model_files(model: Artifact) -> dict[str, Path]:
    """The files that are the model, by their paths in its folder."""
    names = [name for name in model.manifest["files"] if not name.startswith(OF_THE_RUN)]
    return {name: model.path / name for name in names}


def push_datasets(recipe: Recipe, *, private: bool | None) -> str:
    """Write the run's triplets and scores to `datasets/`, with a card, and push them.

    Raises InputError where they are not those that the model learnt from.
    """
    folder, repo = recipe.folder / "datasets", repo_of(recipe) + DATASETS
    counts = write_datasets(recipe, folder)
    card = dataset_card(recipe, counts).replace(ANY_NAME, repo)
    write_file(folder / CARD, card.encode())
    files: dict[str, Path | bytes] = dict(files_of(folder))
    message = "Triplets and scores, made with Tercet"
    return push_files(files, repo, kind="dataset", private=private, message=message)


def write_datasets(recipe: Recipe, folder: Path) -> dict[str, int]:
    """Parquet files of what the run's model learnt from, in `folder`; rows by their names."""
    model = _finished(recipe, "model")
    made = {name: _finished(recipe, name) for name in ("corpus", "triplets", "targets")}
    digests = {
        "passages": made["corpus"].digest_of("passages"),
        "triplets": made["triplets"].digest,
        "targets": made["targets"].digest,
    }
    plan = model.manifest["plan"]
    for name, digest in digests.items():
        if plan["inputs"][name] != digest:
            raise InputError(f"{model.path} learnt from other {name}: {_again(recipe)}")
    for artifact in made.values():
        artifact.verify()
    lists, targets = made["triplets"].dataset("lists"), made["targets"].dataset("targets")
    drawn = data.Triplets(
        lists,
        targets,
        negatives_per_query=plan["settings"]["negatives_per_query"],
        seed=plan["settings"]["seed"],
    )
    return write_published(folder, lists, targets, drawn, data.Passages.read(made["corpus"]))


def dataset_card(recipe: Recipe, counts: dict[str, int]) -> str:
    """Markdown for the Hub of what `write_datasets` wrote."""
    facts = _finished(recipe, "triplets").facts
    size = next((name for end, name in SIZES.items() if counts["scores"] < end), "n>1M")
    configs = [
        line
        for name in counts
        for line in (f"- config_name: {name}", f"  data_files: {name}/train.parquet")
    ]
    columns = {
        "triplets: query": "a synthetic query",
        "triplets: positive, negative": "the passage that it was written of, and another",
        "triplets: label": "the teacher's score of the positive less that of the negative",
        "scores: query_id, query": "every synthetic query",
        "scores: split": "train; validation, guard and test were held out; others were left out",
        "scores: passages": "ids of its list, the passage that it was written of first",
        "scores: teacher": "the cross-encoder's scores of them, raw",
        "scores: student": "the scores of the model before it was adapted",
        "scores: target": "the scores that it should get, on its own scale",
        "passages: id, text": "every passage of the lists, title and text",
    }
    splits = {k.removesuffix("_queries"): v for k, v in facts.items() if k.endswith("_queries")}
    made: dict[str, str] = {
        "corpus": shown(recipe.corpus.label),
        "queries written by": ", ".join(writers(recipe)),
        "candidates a query": str(recipe.negatives.candidates),
        "teacher": shown(recipe.teacher.name),
        "model adapted": shown(recipe.model.name),
        "seed": str(recipe.seed),
        "queries of each split": ", ".join(f"{name} {n:,}" for name, n in splits.items()),
    }
    rows = [(f"{name}", f"{count:,}") for name, count in counts.items()]
    lines = [
        *("---", "task_categories:", "- text-retrieval", "tags:", "- tercet", "- synthetic"),
        *("size_categories:", f"- {size}", "configs:", *configs, "---", ""),
        f"# {escape(recipe.name)}: triplets and scores",
        "",
        "Synthetic queries about a corpus, lists of its passages, and a cross-encoder's scores of",
        "them: what a dense retriever learnt from, with Tercet. No judged query is among them.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'load_dataset("{ANY_NAME}", "triplets", split="train")  # or "scores", "passages"',
        "```",
        "",
        "The columns of `triplets` are those of sentence-transformers' `MarginMSELoss`. Negatives",
        "are the first epoch's draw from the lists of the training queries.",
        "",
        *table(("config", "rows"), rows),
        "",
        *table(("column", "what"), list(columns.items())),
        "",
        "## How it was made",
        "",
        *table(("", ""), [(name, escape(value)) for name, value in made.items()]),
        "",
        "## Licence",
        "",
        "Passages are the corpus's, under its licence, which Tercet does not know: name it here.",
        "Queries were written and scored by the models above, whose terms may apply to what they",
        "write.",
    ]
    return "\n".join(lines) + "\n"


def _finished(recipe: Recipe, stage: str) -> Artifact:
    artifact = existing(recipe.folder / stage)
    if artifact is None:
        raise InputError(f"{recipe.folder / stage} is not made yet: {_again(recipe)}")
    return artifact


def _again(recipe: Recipe) -> str:
    return "run train.py with the recipe, which makes only what is missing"
