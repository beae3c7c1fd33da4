"""Tercet from Python: `adapt` a model to passages in memory, `load` a run, `evaluate` systems.

What is given in memory is written to the run's folder, then the run is that of a recipe: it is
checked, resumed and reused as one, and `tercet adapt RUN/recipe.yaml` goes on with it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tercet import modeling
from tercet.commands.adapt import adapt as run_adapt
from tercet.config.loading import load_run, recipe_of
from tercet.config.recipe import Recipe
from tercet.core.environment import written
from tercet.core.processes import locked
from tercet.core.schema import InputError, Passage
from tercet.evaluation.experiment import Experiment
from tercet.evaluation.results import EXACT, Results
from tercet.evaluation.summary import results_of
from tercet.evaluation.verdict import Verdict, run_verdict
from tercet.in_memory import Judged, Passages, corpus_section, system_settings
from tercet.pipeline.finished import finished
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.deployment import deploy
from tercet.serving.search import RunSearch

if TYPE_CHECKING:
    from tercet.modeling import AdaptedEncoder, BiEncoder
    from tercet.retrieval.weaviate.deployments import Deployment


def adapt(
    passages: Passages,
    model: str | os.PathLike[str] | Mapping[str, Any] | None = None,
    judged: Judged | None = None,
    *,
    time_budget: str | float | None = None,
    name: str = "run",
    runs_dir: str | Path = "runs",
    **sections: Any,
) -> Run:
    """Adapt a model to passages without labels, and return the finished run.

    `passages`: texts, id -> text, rows with `id`, `title` and `text` (dicts, a DataFrame, a
    Dataset), or a path. Texts without ids get their positions as ids. `judged` queries are
    measured, and choose nothing: query -> ids, query -> {id: grade}, rows of clicks, or a path.
    `model` is a folder or Hub name, or the `model` section of a recipe. `time_budget`, such as
    "20min", sets the number of queries.
    `sections` are those of a recipe: `training={"num_train_epochs": 2}`, `seed=7`.

    What is finished is reused when the call is repeated, and an interrupted run is resumed.
    Raises InputError for input that cannot be used, before any work.

        >>> run = tercet.adapt(["Reset a password in the account page.", ...])  # doctest: +SKIP
        >>> print(run.verdict)  # doctest: +SKIP
        Ships: the base model, unchanged. ...
    """
    given = {"name": name, "runs_dir": str(runs_dir), "time_budget": time_budget}
    if model is not None:
        sections["model"] = model if isinstance(model, Mapping) else {"name": model}
    recipe = _recipe(passages, judged, given, sections)
    run_adapt(recipe)
    return Run(recipe)


def load(run: str | Path) -> Run:
    """A finished run, by its folder or by its name in `runs/`.

    Raises InputError for a folder that is no run, and for a run that is not finished.
    """
    named = Path("runs") / run
    return Run(load_run(named if named.is_dir() and not Path(run).exists() else run))


def evaluate(
    systems: Sequence[Any] | Mapping[str, Any],
    passages: Passages,
    judged: Judged,
    *,
    name: str = "evaluation",
    runs_dir: str | Path = "runs",
    **sections: Any,
) -> Results:
    """Compare retrieval systems on judged queries, by exact search, with 95% intervals.

    A system is "bm25", a model's folder or Hub name, an object with `encode_queries` and
    `encode_passages`, a pair (passage vectors, query vectors) in the order of `passages` and
    `judged`, or a mapping with the keys of `evaluation.systems` in a recipe. A mapping of them
    gives their names. The first is the baseline. `passages` and `judged` are as in `adapt`.

        >>> tercet.evaluate(["bm25", "models/mine"], texts, clicks).to_frame()  # doctest: +SKIP
    """
    given = {"name": name, "runs_dir": str(runs_dir)}
    recipe = _recipe(passages, judged, given, sections)
    return _compared(recipe, systems)


class Run:
    """A finished run: what ships, how it was measured, and what can be done with it."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._search: RunSearch | None = None

    @property
    def folder(self) -> Path:
        """The run's folder, with its recipe, artifacts and reports."""
        return self.recipe.folder

    @cached_property
    def _pipeline(self) -> Pipeline:
        return finished(self.recipe, served=False)

    @cached_property
    def verdict(self) -> Verdict:
        """What ships and why; `str` of it is a sentence."""
        return run_verdict(self.folder)

    @cached_property
    def model(self) -> BiEncoder | AdaptedEncoder:
        """The encoder that ships: `encode(text)`, `encode_queries(texts)`, `save_pretrained`."""
        return modeling.load_query_encoder(self._pipeline.model.path)

    @property
    def report(self) -> str:
        """The report in Markdown; `report.html` beside it is a page."""
        return (self.folder / "report.md").read_text(encoding="utf-8")

    def compare(self, *others: Any) -> Results:
        """Compare what ships with its base and with other systems, on the run's test queries.

        `others` are systems as in `evaluate`; vectors are in the order of the run's passages and
        judged queries.
        """
        return _compared(self.recipe, [{"kind": "base"}, {"kind": "adapted"}, *others])

    def search(self, query: str, top_k: int = 10) -> list[tuple[Passage, float]]:
        """Up to `top_k` passages with their scores, best first."""
        if self._search is None:
            self._search = RunSearch(finished(self.recipe), "adapted")
        return self._search.search(query, top_k)

    def deploy(self, collection: str, **options: Any) -> Deployment:
        """Serve what ships from a collection of your Weaviate, as `tercet deploy` does."""
        return deploy(self.recipe, collection, **options)

    def close(self) -> None:
        """Free the index that `search` holds."""
        if self._search is not None:
            self._search.close()
            self._search = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r}): {self.verdict}"

    def _repr_markdown_(self) -> str:
        return self.report


def _recipe(
    passages: Passages,
    judged: Judged | None,
    given: Mapping[str, Any],
    sections: Mapping[str, Any],
) -> Recipe:
    """The recipe of a call. Raises InputError as `load_recipe` does."""
    root = {k: v for k, v in given.items() if v is not None} | dict(sections)
    folder = Path(root["runs_dir"]) / root["name"]
    recipe_of({**root, "corpus": {}}, cross_check=False)  # settings are refused before data
    corpus = corpus_section(passages, judged, folder / "given")
    root["corpus"] = {**corpus, **(sections.get("corpus") or {})}
    return recipe_of(root)


def _compared(recipe: Recipe, systems: Sequence[Any] | Mapping[str, Any]) -> Results:
    """The results of systems over the exact index, on the recipe's test queries."""
    named = systems.items() if isinstance(systems, Mapping) else ((None, each) for each in systems)
    pipeline = Pipeline(recipe)
    settings = [system_settings(each, name, pipeline) for name, each in named]
    if not settings:
        raise InputError("no system to compare was given")
    root = written(asdict(recipe))
    root["evaluation"] |= {"systems": settings, "indexes": [{"name": EXACT}], "baseline": None}
    recipe = recipe_of(root)
    first = replace(recipe.evaluation, baseline=recipe.evaluation.systems[0].label)
    recipe = replace(recipe, evaluation=first)
    with locked(recipe.folder), Experiment(recipe) as experiment:
        experiment.check()
        for index in experiment.indexes:
            experiment.search(index)
        return results_of(experiment)
