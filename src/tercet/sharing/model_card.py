"""The model card of a run: what the model is, its results, how to load it, its limits."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from tercet.config.parsing import flatten
from tercet.config.recipe import Recipe
from tercet.config.training import training_defaults
from tercet.core.artifacts import Artifact
from tercet.core.files import write_file
from tercet.evaluation.verdict import Verdict
from tercet.modeling.hub import CARD
from tercet.pipeline.pipeline import Pipeline
from tercet.reports.markdown import code, escape, front_matter, shown, table
from tercet.reports.report import Report, comparison_table, steps_table
from tercet.sharing.snippets import snippets

_EXAMPLES, _LONGEST = 3, 100  # quoted synthetic queries, and their longest length in characters
#: Settings that name places on this machine or are too long for a card.
_OMITTED = re.compile(
    r"(name|runs_dir|(tracking|ingest|chat)\..*"
    r"|evaluation\.(systems|indexes|latency|out_of_domain|baseline).*"
    r"|training\.(hub_|trackio_|push_to_hub|.*(dir|path)$).*"
    r"|.*\.(prompt|examples.*|dollars.*|endpoint|key_variable)|index\.alias)"
)


def write_card(pipeline: Pipeline, report: Report, command: Sequence[str]) -> Path:
    """Write the card to README.md in the run's folder. `command` started the run."""
    path = pipeline.recipe.folder / CARD
    write_file(path, _card(pipeline, report, command).encode())
    return path


def stamp(model: Artifact, evaluation: Artifact) -> str:
    """A line of the card that identifies the model and its evaluation."""
    return f"model {model.digest[:16]}, evaluation {evaluation.digest[:16]}"


def _card(pipeline: Pipeline, report: Report, command: Sequence[str]) -> str:
    """Markdown for the Hub; equal runs have equal bytes.

    `tercet.sharing.snippets.ANY_NAME` is a placeholder for the model's name.
    """
    sections = (
        _front(pipeline, report.verdict),
        _description(pipeline, report.verdict),
        _results(report),
        _choice(pipeline, report),
        ["## How to load it", "", *snippets(pipeline.model.path, pipeline.recipe)],
        _how_made(pipeline, command),
        _limits(pipeline, report),
    )
    text = "\n".join(line for section in sections for line in [*section, ""])
    return text.rstrip("\n") + "\n"


# ── description ───────────────────────────────────────────────────────────────────────────────────


def _front(pipeline: Pipeline, verdict: Verdict) -> list[str]:
    section = pipeline.recipe.model
    tags = ["tercet", "sentence-transformers", "retrieval", "dense-retrieval"]
    tags += [] if verdict.shipped == "base" else ["domain-adaptation"]
    front: dict[str, Any] = {
        "library_name": "tercet" if section.api else "sentence-transformers",
        "pipeline_tag": "feature-extraction" if section.frozen else "sentence-similarity",
        "tags": tags[:1] + tags[2:] if section.api else tags,
    }
    if section.frozen:
        front["tags"] = [*front["tags"], "query-encoder"]
    # The Hub does not know local folders, and their paths are private.
    if from_hub(pipeline, section.name):
        front["base_model"] = section.name
    return front_matter(front | licence(pipeline))


def from_hub(pipeline: Pipeline, name: str) -> bool:
    """Whether a model of the recipe comes from the Hub instead of a local folder."""
    return pipeline.components.identity(name).startswith("commit:")


def licence(pipeline: Pipeline) -> dict[str, str]:
    """The licence fields in the card of the recipe's base model, if any."""
    if pipeline.recipe.model.api:
        return {}
    return inherited_licence(pipeline.components.folder(pipeline.recipe.model.name))


def inherited_licence(folder: Path) -> dict[str, str]:
    """The licence fields in the front matter of the card in a model folder, if any."""
    try:
        text = (folder / CARD).read_text(encoding="utf-8", errors="replace")
        found = re.match(r"---\s*\n(.*?)\n---\s*(\n|$)", text, re.DOTALL)
        front = yaml.safe_load(found[1]) if found else None
    except (OSError, yaml.YAMLError):
        return {}
    keys = ("license", "license_name", "license_link")
    fields = {k: front[k] for k in keys if k in front} if isinstance(front, dict) else {}
    fields = {k: v for k, v in fields.items() if isinstance(v, str)}
    if not fields.get("license_link", "https:").startswith("https:"):
        del fields["license_link"]  # a file in the base model's repository
    return fields if "license" in fields else {}


def _description(pipeline: Pipeline, verdict: Verdict) -> list[str]:
    recipe, base = pipeline.recipe, code(shown(pipeline.recipe.model.name))
    corpus = code(shown(recipe.corpus.label))
    passages = f"{len(pipeline.passages):,} passages"
    how = (
        f"adapted to {corpus} ({passages}) with Tercet: on synthetic queries and a cross-encoder's"
    )
    how += " margins, without labels"
    if verdict.shipped == "base":
        how = f"unchanged: Tercet trained it on {corpus} ({passages}), and did not ship the result"
    said = [line for text in (verdict.text, *verdict.more) for line in (escape(text), "")]
    space = pipeline.vector_space
    if not space:
        return [f"# {escape(recipe.name)}", "", *said, f"{base}, {how}."]
    where = f"collection {space.collection}" if space.collection else space.place
    part = "a low-rank query adapter for" if recipe.model.adapter else "the query encoder of"
    rows = {
        "passage vectors": space.place,
        "passages": f"{space.passages:,}",
        "dimensions": str(space.vectors.shape[1]),
        "distance": space.similarity,
    }
    rows |= {"collection": space.collection} if space.collection else {}
    rows |= {"named vector": space.vector} if space.vector else {}
    rows |= {"id property": space.id} if space.id else {}
    return [
        f"# {escape(recipe.name)}: query encoder for {escape(where)}",
        "",
        *said,
        f"This is {part} {base}, {how}.",
        "It encodes queries only; the passage vectors are frozen.",
        "",
        *table(("belongs to", ""), [(name, escape(value)) for name, value in rows.items()]),
        "",
        "`space.safetensors` holds a sample of these vectors: other collections are refused.",
    ]


# ── results ──────────────────────────────────────────────────────────────────────────────


def _results(report: Report) -> list[str]:
    lines = ["## Results", "", *comparison_table(report), ""]
    if report.verdict.shipped != "base":
        clear: dict[str, list[str]] = {"Better": [], "Worse": [], "No clear difference": []}
        for c in report.comparisons:
            gain = "Better" if c.interval.difference > 0 else "Worse"
            clear[gain if c.interval.excludes_zero else "No clear difference"].append(c.measure)
        lines += ["Intervals: 95%, paired bootstrap over queries.", ""]
        lines += [f"- {name}: {', '.join(metrics) or 'none'}" for name, metrics in clear.items()]
    return lines + [f"- {escape(note)}" for note in report.notes]


def _choice(pipeline: Pipeline, report: Report) -> list[str]:
    gate = "gate" in pipeline.evaluation.facts
    lines = [
        "## Model selection",
        "",
        "Held-out synthetic queries chose the epoch and the weight of the trained parameters in",
        "the interpolation with the base model; others confirmed it. The judged queries that are",
        "reported chose nothing" + ("; others gated." if gate else "."),
        f"{escape(report.verdict.reason)}.",
    ]
    return [*lines, "", *steps_table(report.steps)] if report.steps else lines


# ── how it was made ──────────────────────────────────────────────────────────────────────────────


def _how_made(pipeline: Pipeline, command: Sequence[str]) -> list[str]:
    recipe = pipeline.recipe
    versions = ", ".join(f"{k} {v}" for k, v in sorted(pipeline.model.manifest["versions"].items()))
    rows = {
        **_steps_of(pipeline),
        "versions": versions,
        "artifacts": stamp(pipeline.model, pipeline.evaluation),
    }
    queries = pipeline.queries.dataset("queries")
    examples = queries.select(range(min(_EXAMPLES, len(queries))))["query"][:]
    changed = [f"{name}: {json.dumps(value)}" for name, value in changed_settings(recipe).items()]
    return [
        "## How it was made",
        "",
        *table(("", ""), [(name, escape(value)) for name, value in rows.items()]),
        "",
        "Examples of the synthetic queries:",
        "",
        *(f"- {code(example[:_LONGEST])}" for example in examples),
        "",
        "```",
        shown_command(command),
        "```",
        "",
        "Settings that differ from Tercet's defaults:",
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
    trained = "query adapter" if recipe.model.adapter else "all weights"
    trained = f"LoRA of rank {recipe.model.lora_rank}" if recipe.model.lora_rank else trained
    return {
        "base model": " ".join(filter(None, [shown(base), commit])),
        "corpus": f"{shown(recipe.corpus.label)}, {len(pipeline.passages):,} passages",
        "synthetic queries": (
            f"{pipeline.queries.facts['queries']:,}, by {', '.join(writers(recipe))}; "
            f"{lists['train_queries']:,} for training, {lists['validation_queries']:,} for "
            f"validation, {lists['guard_queries']:,} for confirmation"
        ),
        "negatives": (
            f"{recipe.negatives.candidates} candidates per query, by {', '.join(retrievers)}; "
            f"{recipe.negatives_per_query} per epoch"
        ),
        "teacher": ": ".join(
            filter(None, [teachers(recipe), pipeline.scores.facts.get("teacher_reads")])
        ),
        "targets": _targets(targets),
        "loss": recipe.loss.kind,
        "training" if facts["weight"] else "training, not shipped": (
            f"{trained}, {facts['steps']:,} steps in {training['num_train_epochs']:g} epochs of "
            f"{training['per_device_train_batch_size']} queries per step and process, learning "
            f"rate {training['learning_rate']:g}"
        ),
        "index": recipe.index.backend,
        "seed": str(recipe.seed),
    }


def teachers(recipe: Recipe) -> str:
    """The scorers' models."""
    return " + ".join(shown(scorer.described) for scorer in recipe.teacher.each.values())


def _targets(facts: Mapping[str, Any]) -> str:
    """The weights of the targets' members, by their facts."""
    if "scorers" not in facts:
        return f"weight {1 - facts['student_weight']:g} for the teacher's margins"
    each = {"the base model": facts["student_weight"]}
    rest = 1 - facts["student_weight"]
    each |= {scorer["scorer"]: rest * scorer["weight"] for scorer in facts["scorers"]}
    return "weights " + ", ".join(f"{weight:.2g} for {name}" for name, weight in each.items())


def writers(recipe: Recipe) -> Iterator[str]:
    """Descriptions of the query generators."""
    for generator in recipe.queries.generators:
        style = f" ({generator.style})" if generator.style else ""
        yield f"{generator.kind} {shown(generator.model)}".strip() + style


def changed_settings(recipe: Recipe) -> dict[str, Any]:
    """The recipe's settings that differ from the defaults, by dotted key, without local paths."""
    plain = flatten(asdict(Recipe(training=training_defaults(recipe.model))))
    given = flatten(asdict(recipe))
    changed = {k: v for k, v in given.items() if plain.get(k) != v and not _OMITTED.fullmatch(k)}
    return {
        name: shown(value) if isinstance(value, str) and "prompt" not in name else value
        for name, value in changed.items()
    }


def shown_command(command: Sequence[str]) -> str:
    """A command for publication: of programs and paths the last part only."""
    words: list[str] = []
    for word in command:
        key, equals, value = word.partition("=") if word.startswith("--") else ("", "", word)
        words.append(key if key and not equals else key + equals + shown(value))
    return shlex.join(re.sub(r"\s+", " ", word) for word in words)


# ── limits ───────────────────────────────────────────────────────────────────────────────


def _limits(pipeline: Pipeline, report: Report) -> list[str]:
    recipe, judged = pipeline.recipe, pipeline.split("test")[2]
    lines = [f"- Evaluated on {escape(judged)} of this corpus only."]
    if "synthetic" in judged:
        lines.append(
            "- Their judgements are synthetic: only a query's source passage counts as relevant."
        )
    if report.verdict.shipped != "base":
        worse = ", ".join(c.measure for c in report.comparisons if c.interval.difference < 0)
        lines += [
            "- It was trained on synthetic queries, which may differ from real ones.",
            "- On other corpora it may be worse than the base model: that was not tested.",
            f"- Lower than the base model, significantly or not: {worse or 'no metric'}.",
        ]
    if recipe.model.frozen:
        lines.append("- It cannot encode passages, and does not fit vectors of other models.")
    fields = licence(pipeline)
    name = fields.get("license_name", fields.get("license", ""))
    lines.append(
        f"- Licence, from the card of the base model: {escape(name)}."
        if name
        else "- Licence: the base model has no card that names one; its terms apply."
    )
    return ["## Limits", "", *lines]
