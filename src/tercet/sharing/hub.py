"""Pushes a finished run to the Hub: the model with its card, and its training data."""

from __future__ import annotations

from pathlib import Path

from tercet import data
from tercet.config.recipe import Recipe
from tercet.core.artifacts import Artifact, existing
from tercet.core.files import write_file
from tercet.core.schema import InputError
from tercet.modeling.hub import CARD, claim_repository, files_of, push_files
from tercet.reports.markdown import escape, shown, table
from tercet.sharing.datasets import write_published
from tercet.sharing.model_card import stamp, teachers, writers
from tercet.sharing.snippets import ANY_NAME

#: Files in the model's artifact that describe the run and do not belong to the model.
_OF_THE_RUN = ("choices-", "history.json", CARD)
_DATASET_SUFFIX = "-triplets"  # added to the model's name on the Hub
_AGAIN = "run `tercet adapt` with the recipe, which runs only the stages that are missing"
#: The Hub's size categories by upper limit.
_SIZES = {1_000: "n<1K", 10_000: "1K<n<10K", 100_000: "10K<n<100K", 1_000_000: "100K<n<1M"}


def _repo(recipe: Recipe) -> str:
    """The model's name on the Hub; without an owner it belongs to the token's owner."""
    return str(recipe.training.get("hub_model_id") or recipe.name)


def push_model(recipe: Recipe, *, private: bool | None) -> str:
    """Push the run's model and card; returns the URL of the commit.

    `private` None uses the account's default for new repositories. Raises InputError if the run is
    not finished or its card belongs to another model.
    """
    model, repo = _finished(recipe, "model"), _repo(recipe)
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
    """The run's card. Raises InputError if it is missing or belongs to another model."""
    model, card = _finished(recipe, "model"), recipe.folder / CARD
    text = card.read_text(encoding="utf-8") if card.exists() else ""
    if stamp(model, _finished(recipe, "evaluation")) not in text:
        raise InputError(f"{card} is not the card of {model.path}: {_AGAIN}")
    return text


def model_files(model: Artifact) -> dict[str, Path]:
    """The files of the model itself, by their paths in its folder."""
    names = [name for name in model.manifest["files"] if not name.startswith(_OF_THE_RUN)]
    return {name: model.file(name) for name in names}


def claim(recipe: Recipe) -> None:
    """Create the repository that training will push to. Raises InputError if the Hub refuses."""
    training = recipe.training
    claim_repository(
        _repo(recipe),
        private=training.get("hub_private_repo"),
        revision=training.get("hub_revision"),
    )


def push_datasets(recipe: Recipe, *, private: bool | None) -> str:
    """Write the run's triplets and scores to `datasets/` with a card, and push them.

    Returns the URL of the commit. Raises InputError if the model was trained on other data.
    """
    folder, repo = recipe.folder / "datasets", _repo(recipe) + _DATASET_SUFFIX
    counts = _write_datasets(recipe, folder)
    card = _dataset_card(recipe, counts).replace(ANY_NAME, repo)
    write_file(folder / CARD, card.encode())
    files: dict[str, Path | bytes] = dict(files_of(folder))
    message = "Triplets and scores, made with Tercet"
    return push_files(files, repo, kind="dataset", private=private, message=message)


def _write_datasets(recipe: Recipe, folder: Path) -> dict[str, int]:
    """Write the model's training data to `folder` as Parquet; returns the rows by config."""
    model = _finished(recipe, "model")
    made = {name: _finished(recipe, name) for name in ("corpus", "triplets", "targets")}
    digests = {
        "corpus/passages": made["corpus"].digest_of("passages"),
        "triplets": made["triplets"].digest,
        "targets": made["targets"].digest,
    }
    plan = model.manifest["plan"]
    for name, digest in digests.items():
        if plan["inputs"][name] != digest:
            rows = name.rpartition("/")[2]
            raise InputError(f"{model.path} was trained on other {rows}: {_AGAIN}")
    lists, targets = made["triplets"].dataset("lists"), made["targets"].dataset("targets")
    drawn = data.Triplets(
        lists,
        targets,
        negatives_per_query=plan["settings"]["negatives_per_query"],
        seed=plan["settings"]["seed"],
    )
    return write_published(folder, lists, targets, drawn, data.Passages.read(made["corpus"]))


def _dataset_card(recipe: Recipe, counts: dict[str, int]) -> str:
    """The dataset card: Markdown for the Hub, for the number of rows by config."""
    facts = _finished(recipe, "triplets").facts
    size = next((name for end, name in _SIZES.items() if counts["scores"] < end), "n>1M")
    configs = [
        line
        for name in counts
        for line in (f"- config_name: {name}", f"  data_files: {name}/train.parquet")
    ]
    columns = {
        "triplets: query": "a synthetic query",
        "triplets: positive, negative": "the query's source passage, and another passage",
        "triplets: label": "the teacher's score of the positive minus that of the negative",
        "scores: query_id, query": "every synthetic query",
        "scores: split": "train; validation, guard and test are held out; the rest was not used",
        "scores: passages": "passage ids of the query's list, its source passage first",
        "scores: teacher": "the cross-encoder's raw scores of the list"
        if len(recipe.teacher.names) == 1
        else "the scorers' weighted sum, each brought to the base model's scale",
        "scores: student": "the base model's scores of the list",
        "scores: target": "the target scores for training, on the base model's scale",
        "passages: id, text": "every passage in the lists, title and text",
    }
    splits = {k.removesuffix("_queries"): v for k, v in facts.items() if k.endswith("_queries")}
    made: dict[str, str] = {
        "corpus": shown(recipe.corpus.label),
        "query generators": ", ".join(writers(recipe)),
        "candidates a query": str(recipe.negatives.candidates),
        "teacher": teachers(recipe),
        "base model": shown(recipe.model.name),
        "seed": str(recipe.seed),
        "queries of each split": ", ".join(f"{name} {n:,}" for name, n in splits.items()),
    }
    rows = [(f"{name}", f"{count:,}") for name, count in counts.items()]
    lines = [
        *("---", "task_categories:", "- text-retrieval", "tags:", "- tercet", "- synthetic"),
        *("size_categories:", f"- {size}", "configs:", *configs, "---", ""),
        f"# {escape(recipe.name)}: triplets and scores",
        "",
        "Training data of a dense retriever, made with Tercet: synthetic queries about a corpus,",
        "lists of its passages, and a teacher's scores. It contains no judged queries.",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'load_dataset("{ANY_NAME}", "triplets", split="train")  # or "scores", "passages"',
        "```",
        "",
        "`triplets` has the columns of sentence-transformers' `MarginMSELoss`. Its negatives are",
        "those that the first epoch drew from the lists of the training queries.",
        "",
        *table(("config", "rows"), rows),
        "",
        *table(("column", "content"), list(columns.items())),
        "",
        "## How it was made",
        "",
        *table(("", ""), [(name, escape(value)) for name, value in made.items()]),
        "",
        "## Licence",
        "",
        "The passages are under the licence of the corpus, which Tercet does not know: name it",
        "here. The models above generated and scored the queries; their terms may apply.",
    ]
    return "\n".join(lines) + "\n"


def _finished(recipe: Recipe, stage: str) -> Artifact:
    artifact = existing(recipe.folder / stage)
    if artifact is None:
        raise InputError(f"{recipe.folder / stage} does not exist yet: {_AGAIN}")
    return artifact
