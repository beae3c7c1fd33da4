"""A run's model card: what the model is, how much better it got, how to load it, what it is not."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.config.training import training_defaults
from tercet.core.artifacts import Artifact
from tercet.core.files import write_file
from tercet.modeling.hub import CARD
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.markdown import code, escape, front_matter, shown, table
from tercet.reports.report import Report, comparison_table, steps_table
from tercet.sharing.snippets import snippets

#: Synthetic queries that are quoted, and their longest length in characters.
EXAMPLES, LONGEST = 3, 100
#: Settings that say where things are on one machine, or are too long to read in a card.
UNSAID = re.compile(
    r"(name|runs_dir|(tracking|ingest|chat)\..*"
    r"|evaluation\.(systems|indexes|clock|second|baseline).*"
    r"|training\.(hub_|trackio_|push_to_hub|.*(dir|path)$).*"
    r"|.*\.(prompt|examples.*|dollars.*)|index\.alias)"
)


def write_card(pipeline: Pipeline, report: Report, command: Sequence[str]) -> Path:
    """`README.md` in the run's folder, beside the model, of the run that `command` ended."""
    path = pipeline.recipe.folder / CARD
    write_file(path, model_card(pipeline, report, command).encode())
    return path


def stamp(model: Artifact, evaluation: Artifact) -> str:
    """What tells that a card is of these two."""
    return f"model {model.digest[:16]}, evaluation {evaluation.digest[:16]}"


def model_card(pipeline: Pipeline, report: Report, command: Sequence[str]) -> str:
    """Markdown for the Hub, the same bytes for equal runs.

    `tercet.sharing.snippets.ANY_NAME` stands where the model's own name is to be.
    """
    sections = (
        _front(pipeline),
        _what_it_is(pipeline),
        _figures(report),
        _choice(pipeline, report),
        ["## How to load it", "", *snippets(pipeline.model.path, pipeline.recipe)],
        _how_made(pipeline, command),
        _limits(pipeline, report),
    )
    text = "\n".join(line for section in sections for line in [*section, ""])
    return text.rstrip("\n") + "\n"


# ── what it is ───────────────────────────────────────────────────────────────────────────────────


def _front(pipeline: Pipeline) -> list[str]:
    section = pipeline.recipe.model
    tags = ["tercet", "sentence-transformers", "retrieval", "dense-retrieval", "domain-adaptation"]
    front: dict[str, Any] = {
        "library_name": "tercet" if section.api else "sentence-transformers",
        "pipeline_tag": "feature-extraction" if section.frozen else "sentence-similarity",
        "tags": tags[:1] + tags[2:] if section.api else tags,
    }
    if section.frozen:
        front["tags"] = [*front["tags"], "query-encoder"]
    # A folder's name says nothing to the Hub, and may be a path of this machine.
    if from_hub(pipeline, section.name):
        front["base_model"] = section.name
    return front_matter(front | licence(pipeline))


def from_hub(pipeline: Pipeline, name: str) -> bool:
    """Whether a model of the recipe is the Hub's, and not a folder's."""
    return pipeline.components.identity(name).startswith("commit:")


def licence(pipeline: Pipeline) -> dict[str, str]:
    """`license`, with its name and link, as the card of the recipe's model has it, if it does."""
    if pipeline.recipe.model.api:
        return {}
    return inherited_licence(pipeline.components.folder(pipeline.recipe.model.name))


def inherited_licence(folder: Path) -> dict[str, str]:
    """`license`, with its name and link, from the front matter of a model folder's own card."""
    try:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        front = yaml.safe_load(found[1]) if found else None
    except (OSError, yaml.YAMLError):
        return {}
    keys = ("license", "license_name", "license_link")
    said = {k: front[k] for k in keys if k in front} if isinstance(front, dict) else {}
    said = {k: v for k, v in said.items() if isinstance(v, str)}
    if not said.get("license_link", "https:").startswith("https:"):
        del said["license_link"]  # a file of the base's repository
    return said if "license" in said else {}


def _what_it_is(pipeline: Pipeline) -> list[str]:
    recipe, base = pipeline.recipe, code(shown(pipeline.recipe.model.name))
    corpus = code(shown(recipe.corpus.label))
    passages = f"{len(pipeline.passages):,} passages"
    how = "by Tercet: on synthetic queries, towards a cross-encoder's margins, without labels"
    space = pipeline.vector_space
    if not space:
        lines = [
            f"# {escape(recipe.name)}",
            "",
            f"{base} adapted to {corpus} ({passages}) {how}.",
        ]
        return lines + _base_kept(pipeline)
    where = f"collection {space.collection}" if space.collection else space.place
    learnt = "a low-rank adapter of the query vectors of" if recipe.model.adapter else "queries of"
    rows = {
        "passages' vectors": space.place,
        "passages": f"{space.passages:,}",
        "dimensions": str(space.vectors.shape[1]),
        "distance": space.similarity,
    }
    rows |= {"collection": space.collection} if space.collection else {}
    rows |= {"named vector": space.vector} if space.vector else {}
    rows |= {"ids are in": space.id} if space.id else {}
    lines = [
        f"# {escape(recipe.name)}: queries for {escape(where)}",
        "",
        f"This is {learnt} {base}, adapted to {corpus} ({passages}) {how}. It",
        "encodes queries, and no passages: those keep the vectors that they have.",
        "",
        *table(("it belongs to", ""), [(name, escape(value)) for name, value in rows.items()]),
        "",
        "`space.safetensors` holds a sample of those vectors: another collection is refused.",
    ]
    return lines + _base_kept(pipeline)


def _base_kept(pipeline: Pipeline) -> list[str]:
    if not pipeline.model.facts["base_kept"]:
        return []
    return [
        "",
        "**Training did not help:** the trained weights did not gain on both sets of held-out",
        "queries, so these are the weights that it began with.",
    ]


# ── what it came to ──────────────────────────────────────────────────────────────────────────────


def _figures(report: Report) -> list[str]:
    clear: dict[str, list[str]] = {"Better": [], "Worse": [], "No clear difference": []}
    for c in report.comparisons:
        gain = "Better" if c.interval.difference > 0 else "Worse"
        clear[gain if c.interval.excludes_zero else "No clear difference"].append(c.measure)
    return [
        "## Figures",
        "",
        *comparison_table(report.comparisons),
        "",
        "Intervals are of the paired difference over queries, by bootstrap.",
        "",
        *(f"- {name}: {', '.join(measures) or 'none'}" for name, measures in clear.items()),
        *(f"- {escape(note)}" for note in report.notes),
    ]


def _choice(pipeline: Pipeline, report: Report) -> list[str]:
    facts = pipeline.model.facts
    ships = (
        "It did not gain on both, so the model as it came ships."
        if facts["base_kept"]
        else f"It gained on both: {facts['weight']:g} of the way to the trained weights ships."
    )
    lines = [
        "## What chose it",
        "",
        "No judged query chose anything. Held-out synthetic queries chose the epoch and how far to",
        "go from the model as it came to the trained weights; others of them guarded that choice.",
        ships,
    ]
    return [*lines, "", *steps_table(report.steps)] if report.steps else lines


# ── how it was made ──────────────────────────────────────────────────────────────────────────────


def _how_made(pipeline: Pipeline, command: Sequence[str]) -> list[str]:
    recipe = pipeline.recipe
    versions = ", ".join(f"{k} {v}" for k, v in sorted(pipeline.model.manifest["versions"].items()))
    rows = {
        **_steps_of(pipeline),
        "versions": versions,
        "artefacts": stamp(pipeline.model, pipeline.evaluation),
    }
    queries = pipeline.queries.dataset("queries")
    examples = queries.select(range(min(EXAMPLES, len(queries))))["query"][:]
    changed = [f"{name}: {json.dumps(value)}" for name, value in changed_settings(recipe).items()]
    return [
        "## How it was made",
        "",
        *table(("", ""), [(name, escape(value)) for name, value in rows.items()]),
        "",
        "Queries that were written, for example:",
        "",
        *(f"- {code(example[:LONGEST])}" for example in examples),
        "",
        "```",
        shown_command(command),
        "```",
        "",
        "Settings that are not Tercet's defaults:",
        "",
        "```yaml",
        *changed,
        "```",
    ]


def _steps_of(pipeline: Pipeline) -> dict[str, str]:
    recipe, facts = pipeline.recipe, pipeline.model.facts
    lists, targets = pipeline.triplets.facts, pipeline.targets.facts
    training, base = recipe.training, recipe.model.name
    commit = pipeline.components.identity(base) if from_hub(pipeline, base) else ""
    retrievers = [
        f"{r.kind} {shown(r.model)}" if r.model else r.kind for r in recipe.negatives.retrievers
    ]
    learnt = "query adapter" if recipe.model.adapter else "all weights"
    learnt = f"LoRA of rank {recipe.model.lora_rank}" if recipe.model.lora_rank else learnt
    return {
        "base model": " ".join(filter(None, [shown(base), commit])),
        "corpus": f"{shown(recipe.corpus.label)}, {len(pipeline.passages):,} passages",
        "synthetic queries": (
            f"{pipeline.queries.facts['queries']:,}, by {', '.join(writers(recipe))}; "
            f"{lists['train_queries']:,} to train on, {lists['validation_queries']:,} to choose "
            f"by, {lists['guard_queries']:,} to guard the choice"
        ),
        "negatives": (
            f"{recipe.negatives.candidates} candidates a query, by {', '.join(retrievers)}; "
            f"{recipe.negatives_per_query} an epoch"
        ),
        "teacher": shown(recipe.teacher.name),
        "targets": f"{targets['teacher_weight']:g} of the way to the teacher's margins",
        "loss": recipe.loss.kind,
        "training": (
            f"{learnt}, {facts['steps']:,} steps in {training['num_train_epochs']:g} epochs of "
            f"{training['per_device_train_batch_size']} queries a step and process, learning rate "
            f"{training['learning_rate']:g}"
        ),
        "index": recipe.index.backend,
        "seed": str(recipe.seed),
    }


def writers(recipe: Recipe) -> Iterator[str]:
    """What wrote the synthetic queries, in words."""
    for generator in recipe.queries.generators:
        style = f" ({generator.style})" if generator.style else ""
        yield f"{generator.kind} {shown(generator.model)}".strip() + style


def changed_settings(recipe: Recipe) -> dict[str, Any]:
    """Dotted keys of a recipe whose values are not the defaults, without this machine's paths."""
    plain = flatten(asdict(Recipe(training=training_defaults(recipe.model))))
    given = flatten(asdict(recipe))
    changed = {k: v for k, v in given.items() if plain.get(k) != v and not UNSAID.fullmatch(k)}
    return {
        name: shown(value) if isinstance(value, str) and "prompt" not in name else value
        for name, value in changed.items()
    }


def shown_command(command: Sequence[str]) -> str:
    """A command as others may see it: programs and paths by their last parts."""
    words = ["python"]
    for word in command:
        key, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(key if key and not equals else key + equals + shown(value))
    return shlex.join(re.sub(r"\s+", " ", word) for word in words)


# ── what it is not ───────────────────────────────────────────────────────────────────────────────


def _limits(pipeline: Pipeline, report: Report) -> list[str]:
    recipe, judged = pipeline.recipe, pipeline.split("test")[2]
    worse = [c.measure for c in report.comparisons if c.interval.difference < 0]
    lines = [f"- Measured on {escape(judged)} of this corpus, and on nothing else."]
    if "synthetic" in judged:
        lines.append(
            "- Nobody judged them: the passage that a query was written of is its only answer."
        )
    lines += [
        "- It was trained on synthetic queries. What users ask may differ from them.",
        "- On other corpora it may be worse than the model it came from: that was not measured.",
        f"- Lower than before, within chance or beyond it: {', '.join(worse) or 'no measure'}.",
    ]
    if recipe.model.frozen:
        lines.append("- It is of no use for passages, nor for vectors that another model made.")
    said = licence(pipeline)
    name = said.get("license_name", said.get("license", ""))
    lines.append(
        f"- Licence, inherited from the base model's card: {escape(name)}."
        if name
        else "- Licence: no card of the base model names one here; its own terms apply."
    )
    return ["## Limits", "", *lines]
