"""What a run decides by measuring the machine, and keeps in its folder.

The number formats of its models, where the recipe says `auto`, the engines of query-writing T5s,
the numbers of queries and candidates that fit its time budget, and whether the demo's teacher
stands in for one that the Hub did not give. The first process decides before the first shard that
depends on it; every process, and a run that is resumed on another machine, reads `choices.json`. A
choice holds for what it was made for: of another model it is made again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from tercet import modeling
from tercet.config.recipe import GeneratorSettings, Recipe, RetrieverSettings
from tercet.config.teacher import ScorerSettings
from tercet.core.console import console
from tercet.core.files import kept, write_json
from tercet.core.plugins import is_plugin
from tercet.data import Passages
from tercet.modeling.precision import default_device, known_dtype, name_of
from tercet.pipeline.components import Components

CHOICES = "choices.json"
#: The keys that a time budget chooses.
QUERIES, CANDIDATES = "queries.count", "negatives.candidates"
#: The end of the keys that the engines of query-writing T5s are kept under.
ENGINE = ".engine"
#: Recipe key -> {"of": what the choice was made for, "choice": the key's value}.
Choices = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Open:
    """A number format that a recipe leaves open: its model, and how to find the faster one."""

    of: str
    measure: Callable[[], modeling.Precision]


def read_choices(folder: Path) -> dict[str, Any]:
    """What a run has chosen; nothing before its first shard."""
    return kept(folder / CHOICES, _known) or {}


def _known(choices: Any) -> dict[str, Any]:
    """The choices of a file. Raises TypeError for anything else."""
    for made in choices.values():
        if not isinstance(made["of"], str) or not isinstance(made["choice"], str | bool | int):
            raise TypeError("no choice")
    return dict(choices)


def write_choices(folder: Path, choices: Choices) -> None:
    """Keep the choices in the run's folder, in one step."""
    if choices and dict(choices) != read_choices(folder):
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / CHOICES, choices)


def chosen(recipe: Recipe, choices: Choices) -> Recipe:
    """The recipe with the choices that stand."""
    for key, choice in standing(recipe, choices).items():
        if not key.endswith(ENGINE):  # what `auto` came to is in the generators' identity
            recipe = _with(recipe, key, choice)
    return recipe


def engines(recipe: Recipe, choices: Choices) -> dict[str, str]:
    """What the run's T5s write with, by model."""
    made = {key: choices.get(key, {}) for key in _t5s(recipe)}
    return {
        each.model or "": made[key]["choice"]
        for key, each in _t5s(recipe).items()
        if made[key].get("of") == _engine_of(each)
    }


def choose_engines(parts: Components) -> dict[str, Any]:
    """Choose, by this machine, what the T5s write with of which it is not known."""
    return {
        key: {"of": _engine_of(each), "choice": parts.engine_of(each)}
        for key, each in _t5s(parts.recipe).items()
        if each.model not in parts.engines
    }


def _engine_of(settings: GeneratorSettings) -> str:
    """What an engine is chosen for."""
    return f"{settings.model} {settings.engine}"


def _t5s(recipe: Recipe) -> dict[str, GeneratorSettings]:
    return {
        f"queries.generators.{place}{ENGINE}": settings
        for place, settings in enumerate(recipe.queries.generators)
        if settings.kind == "seq2seq"
    }


def standing(recipe: Recipe, choices: Choices) -> dict[str, Any]:
    """The choices that were made for what the recipe asks for, by key."""
    of = teachers(recipe)
    for key, name in teachers(recipe).items():
        if choices.get(key, {}).get("of") == name:
            recipe = _with(recipe, key, choices[key]["choice"])
    of |= {key: _engine_of(each) for key, each in _t5s(recipe).items()}
    of |= {key: each.of for key, each in _open(recipe, engines(recipe, choices)).items()}
    if recipe.time_budget:
        of |= {
            QUERIES: budget_of(recipe),
            CANDIDATES: budget_of(recipe, recipe.negatives.candidates),
        }
    return {key: made["choice"] for key, made in choices.items() if made["of"] == of.get(key)}


def budget_of(recipe: Recipe, candidates: int | None = None) -> str:
    """What the numbers are chosen for: the time budget, and the most queries and candidates."""
    most = recipe.queries.count
    said = f"{recipe.time_budget}" + (f", at most {most}" if most else "")
    return said if candidates is None else f"{said}, at most {candidates} candidates"


def within_budget(recipe: Recipe, queries: int, candidates: int) -> dict[str, Any]:
    """The choice of a time budget; fewer candidates are one only where they are fewer."""
    most = recipe.negatives.candidates
    found = {QUERIES: {"of": budget_of(recipe), "choice": queries}}
    if candidates < most:
        found[CANDIDATES] = {"of": budget_of(recipe, most), "choice": candidates}
    return found


def teachers(recipe: Recipe) -> dict[str, str]:
    """The names of the cross-encoders that score, by their keys."""
    each = recipe.teacher.each.items()
    return {f"{path}.name": s.name for path, s in each if s.kind == "cross_encoder"}


def teachers_of(recipe: Recipe) -> dict[str, Any]:
    """The teachers of a recipe that names some which the demo's can stand in for; else nothing.

    Kept whichever they are, so that a Hub that answers later, or no longer, changes no run.
    """
    return {
        key: {"of": name, "choice": modeling.stand_in(name)}
        for key, name in teachers(recipe).items()
        if modeling.has_stand_in(name)
    }


def measure(recipe: Recipe, engines: Mapping[str, str]) -> dict[str, Any]:
    """Choose the number formats that the recipe leaves open; told in one line."""
    known = known_dtype("auto", default_device())
    found: dict[str, Any] = {}
    for key, each in _open(recipe, engines).items():
        precision = each.measure() if known is None else name_of(known)
        choice = precision == "bf16" if key == "training.bf16" else precision
        found[key] = {"of": each.of, "choice": choice}
    if found:
        said = ", ".join(f"{key} {each['choice']}" for key, each in found.items())
        how = "measured" if known is None else f"on {default_device().type}"
        console.print(f"number formats, {how}: {said}", style="dim")
    return found


def _open(recipe: Recipe, engines: Mapping[str, str]) -> dict[str, _Open]:
    """The number formats that a recipe leaves open, by key."""
    parts, found = Components(recipe), dict[str, _Open]()
    model = recipe.model
    if not model.api:
        if model.precision == "auto":
            found["model.precision"] = _Open(model.name, lambda: _of(parts.base_model(), "encode"))
        learns = not model.adapter and not recipe.training.get("fp16")
        if learns and recipe.training.get("bf16") is None:
            found["training.bf16"] = _Open(model.name, lambda: _of(parts.base_model(), "train"))
    found |= _open_scorers(parts, recipe)
    for place, settings in enumerate(recipe.queries.generators):
        if settings.precision == "auto" and _by_torch(settings, engines):
            name = " ".join(filter(None, (settings.model, settings.gguf_file)))
            found[f"queries.generators.{place}.precision"] = _Open(
                name, partial(_of_writer, parts, settings)
            )
    for place, retriever in enumerate(recipe.negatives.retrievers):
        if retriever.precision == "auto" and retriever.model:
            found[f"negatives.retrievers.{place}.precision"] = _Open(
                retriever.model, partial(_of_retriever, parts, retriever)
            )
    return found


def _open_scorers(parts: Components, recipe: Recipe) -> dict[str, _Open]:
    """Those of the scorers; a bi-encoder that mines has the format that its retriever has."""
    mining, found = {r.model for r in recipe.negatives.retrievers}, dict[str, _Open]()
    for path, scorer in recipe.teacher.each.items():
        if scorer.precision != "auto":
            continue
        if scorer.kind == "bi_encoder" and scorer.name not in mining:
            encoder = recipe.scorer_encoders[scorer.short_name]
            found[f"{path}.precision"] = _Open(scorer.name, partial(_of_retriever, parts, encoder))
        plugged = is_plugin("teachers", scorer.name)
        onnx = not plugged and modeling.is_onnx(scorer.name, scorer.backend)
        if scorer.kind == "cross_encoder" and not plugged and not onnx:
            found[f"{path}.precision"] = _Open(scorer.name, partial(_of_teacher, parts, scorer))
    return found


def _by_torch(settings: GeneratorSettings, engines: Mapping[str, str]) -> bool:
    if settings.kind == "seq2seq":
        known = engines.get(settings.model or "")
        return (known or modeling.seq2seq_engine(settings.engine)) == "torch"
    return settings.kind == "causal"


def _of(encoder: Any, use: str) -> modeling.Precision:
    return name_of(encoder.dtype_of(use))


def _of_retriever(parts: Components, settings: RetrieverSettings) -> modeling.Precision:
    return _of(parts.other_encoder(settings), "encode")


def _of_teacher(parts: Components, scorer: ScorerSettings) -> modeling.Precision:
    teacher: Any = parts.teacher(scorer)
    precision: modeling.Precision = teacher.precision
    return precision


def _of_writer(parts: Components, settings: GeneratorSettings) -> modeling.Precision:
    writer: Any = parts.generator(settings, Passages.of([]))
    precision: modeling.Precision = writer.precision
    return precision


def _with(value: Any, path: str, new: Any) -> Any:
    """Settings with another value of one key; a number is a place in a list."""
    name, _, rest = path.partition(".")
    if isinstance(value, list):
        place = int(name)
        inner = _with(value[place], rest, new) if rest else new
        return [*value[:place], inner, *value[place + 1 :]]
    if is_dataclass(value) and not isinstance(value, type):
        inner = _with(getattr(value, name), rest, new) if rest else new
        return replace(value, **{name: inner})
    return {**value, name: new}
