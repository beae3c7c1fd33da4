"""The tiny recipe: a run of the tiny collection and models, of a few seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

_ENCODING = {"precision": "fp32", "max_length": 48}
_SECTIONS: dict[str, dict[str, Any]] = {
    "queries": {"count": 60, "per_passage": 1},
    "negatives": {"candidates": 8},
    "training": {"per_device_train_batch_size": 8, "bf16": False},
}
#: What a section gets where a recipe has it; a path alone stands for the key here.
_GIVEN = {"corpus": ("path", {}), "teacher": ("name", _ENCODING), "model": ("name", _ENCODING)}


def tiny_recipe(folder: Path, *, name: str = "tiny", **sections: Any) -> Path:
    """Write FOLDER/`name`.yaml, of a run in FOLDER/runs, and return its path.

    `sections` add to those above, key by key; `corpus`, `teacher` and `model` may be a path.
    """
    recipe: dict[str, Any] = {"name": name, "runs_dir": folder / "runs", **_SECTIONS}
    for section, given in sections.items():
        key, defaults = _GIVEN.get(section, ("", {}))
        given = given if isinstance(given, dict) else {key: given}
        recipe[section] = {**recipe.get(section, {}), **defaults, **given}
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(_plain(recipe), sort_keys=False, allow_unicode=True))
    return path


def live_recipe(
    folder: Path, collection: str, *, corpus: Path, model: Path, name: str = "live", **sections: Any
) -> Path:
    """A tiny recipe whose passages and their vectors are those of a collection in Weaviate.

    Its queries and judgements are those of the BEIR folder `corpus`.
    """
    live = {"backend": "weaviate", "collection": collection}
    given: dict[str, Any] = {
        "corpus": {
            "source": "weaviate",
            "path": collection,
            "passages": {"id": "key"},
            "queries": {"path": corpus / "queries.jsonl"},
            "qrels": {"path": corpus / "qrels" / "*.tsv"},
        },
        "queries": {"count": 40},
        "negatives": {"candidates": 6, "index": live},
        "model": {"name": model, "train": "query_encoder", "passage_vectors": "index"},
        "index": {**live, "vector": "theirs"},
    }
    given["teacher"] = {"name": sections.pop("teacher"), "student_weight": 0.5}
    training = {"num_train_epochs": 1, "learning_rate": 1e-3, **sections.pop("training", {})}
    return tiny_recipe(folder, name=name, training=training, **given, **sections)


def changed(recipe: Path, **sections: Any) -> Path:
    """Put other sections, or another name, into a recipe; the file is the same."""
    held = yaml.safe_load(recipe.read_text()) | _plain(sections)
    recipe.write_text(yaml.safe_dump(held, sort_keys=False, allow_unicode=True))
    return recipe


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value
