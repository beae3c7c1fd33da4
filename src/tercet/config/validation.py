"""Checks across the keys of a recipe."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import get_args

from tercet.config.evaluation import SystemKind, SystemSettings
from tercet.config.index import IndexSettings
from tercet.config.parsing import Node, nearest
from tercet.config.plugins import plugins_of, settings_within
from tercet.config.recipe import Recipe
from tercet.config.teacher import ScorerSettings
from tercet.core.files import slug
from tercet.core.metric_names import parse_metric
from tercet.core.schema import InputError


def check_across(recipe: Recipe, training: Node | None, root: Node) -> None:
    """Raise InputError, naming the line, for values that are valid alone but not together."""

    def where(*steps: str) -> str:
        node: Node | None = root
        for step in steps:
            inner = node.value.get(step) if node and isinstance(node.value, dict) else None
            node = inner or node
        return node.where if node else root.where

    given = training.value if training and training.value else {}
    metric = recipe.training["metric_for_best_model"]
    if metric not in recipe.metrics:
        node = given.get("metric_for_best_model")
        place = node.where if node else where("evaluation", "cutoffs")
        raise InputError(
            f"{place}: training.metric_for_best_model {metric!r} is not measured"
            f"{nearest(str(metric), recipe.metrics)}"
        )
    if recipe.time_budget is not None:
        if not recipe.budget_seconds:
            raise InputError(
                f"{where('time_budget')}: time_budget {recipe.time_budget!r} is no duration: write "
                "20min, 2h or a number of seconds"
            )
        if recipe.model.frozen:
            raise InputError(
                f"{where('time_budget')}: time_budget needs model.train both, which a forecast "
                "supports: give queries.count instead"
            )
    for number, generator in enumerate(recipe.queries.generators):
        if fault := generator.misplaced():
            raise InputError(
                f"{where('queries', 'generators')}: queries.generators.{number} {fault}"
            )
        if generator.prompt is not None and "{passage}" not in generator.prompt:
            raise InputError(
                f"{where('queries', 'generators')}: queries.generators.{number}.prompt "
                "must contain {passage}"
            )
        if any(len(example) != 2 for example in generator.examples or []):
            raise InputError(
                f"{where('queries', 'generators')}: queries.generators.{number}.examples "
                "must be pairs [passage, query]"
            )
    if not recipe.queries.generators or not recipe.negatives.retrievers:
        raise InputError(f"{root.where}: at least one generator and one retriever are needed")
    if recipe.negatives_per_query > recipe.negatives.candidates:
        raise InputError(
            f"{where('triplets', 'negatives_per_query')}: triplets.negatives_per_query "
            f"({recipe.negatives_per_query}) is more than negatives.candidates "
            f"({recipe.negatives.candidates})"
        )
    if recipe.loss.contrastive and recipe.training["gradient_accumulation_steps"] > 1:
        raise InputError(
            f"{given['gradient_accumulation_steps'].where}: InfoNCE takes its negatives from "
            "one batch: raise training.per_device_train_batch_size instead of "
            "gradient_accumulation_steps, it costs no more memory"
        )
    if recipe.model.lora_alpha and not recipe.model.lora_rank:
        raise InputError(
            f"{where('model', 'lora_alpha')}: model.lora_alpha is LoRA's: give model.lora_rank too"
        )
    _check_query_side(recipe, where)
    if fault := recipe.teacher.misplaced():
        raise InputError(f"{where('teacher')}: {fault}")
    if fault := _two_ways(recipe):
        raise InputError(f"{where('teacher', 'scorers')}: {fault}")
    if fault := recipe.chat.misplaced():
        raise InputError(f"{where('chat')}: {fault}")
    names = [
        r.kind if r.kind != "dense" else Path(r.model).name if r.model else "student"
        for r in recipe.negatives.retrievers
    ]
    if len(set(names)) < len(names):
        raise InputError(
            f"{where('negatives', 'retrievers')}: two of negatives.retrievers have one name "
            f"({', '.join(names)})"
        )
    if not re.fullmatch(r"[\w][\w.-]*", recipe.name):
        raise InputError(
            f"{where('name')}: name {recipe.name!r} must be letters, digits, '.', '_' and '-'"
        )
    if recipe.index.alias and not re.fullmatch(r"[A-Z][0-9A-Za-z_]*", recipe.index.alias):
        raise InputError(
            f"{where('index', 'alias')}: index.alias {recipe.index.alias!r} must be letters, "
            "digits and '_', the first a capital"
        )
    if not recipe.corpus.path and "path" in recipe.corpus.read:
        raise InputError(f"{where('corpus')}: corpus.path is not set: give --corpus.path FOLDER")
    if unread := recipe.corpus.unread():
        raise InputError(
            f"{where('corpus')}: corpus.{unread} is not read with source {recipe.corpus.source}"
        )
    _check_experiment(recipe, where("evaluation"))
    _check_plugins(recipe, where)


def _two_ways(recipe: Recipe) -> str | None:
    """A bi-encoder that mines and scores, and is to be read in two ways; or None."""
    for path, scorer in recipe.teacher.each.items():
        own = recipe.scorer_encoders.get(scorer.short_name)
        for name in ("pooling", "precision") if own else ():
            if getattr(scorer, name) not in (getattr(ScorerSettings(), name), getattr(own, name)):
                return (
                    f"{path}.{name} is another than that of the retriever with this model, whose "
                    f"vectors it shares: leave it out"
                )
    return None


def _check_query_side(recipe: Recipe, where: Callable[..., str]) -> None:
    """Check the keys of frozen passage vectors and existing collections."""
    model, index = recipe.model, recipe.index
    if model.query_prompt == []:
        raise InputError(f"{where('model', 'query_prompt')}: model.query_prompt has no prompt")
    if misplaced := model.misplaced():
        raise InputError(f"{where('model')}: {misplaced} and has no effect here")
    if model.passage_vectors == "corpus" and not recipe.corpus.passages.vector:
        raise InputError(
            f"{where('model', 'passage_vectors')}: model.passage_vectors is corpus: name "
            "the column, corpus.passages.vector"
        )
    if model.passage_vectors == "index" and not index.collection:
        raise InputError(
            f"{where('model', 'passage_vectors')}: model.passage_vectors is index: name it, "
            "index.collection"
        )
    indexes = [("index", index), ("negatives", recipe.negatives.index)]
    indexes += [("evaluation", each) for each in recipe.evaluation.indexes]
    for place, each in indexes:
        if each.collection and not model.frozen:
            raise InputError(
                f"{where(place)}: an existing collection ({each.collection!r}) needs frozen "
                "passage vectors, model.train query_encoder or query_adapter: passages that are "
                "encoded anew are written to collections of their own"
            )
        if each.collection and each.backend != "weaviate":
            raise InputError(
                f"{where(place)}: collection {each.collection!r} is Weaviate's: "
                "give backend weaviate too"
            )
        plain = IndexSettings(backend=each.backend)
        for name in ("kind", "metric", "ef"):
            if each.collection and getattr(each, name) != getattr(plain, name):
                raise InputError(
                    f"{where(place)}: collection {each.collection!r} exists already: "
                    f"leave out {name}"
                )
        if (each.vector or each.id or each.tenant) and not each.collection:
            raise InputError(
                f"{where(place)}: vector, id and tenant are of a collection: give that too"
            )
    if index.collection and index.alias:
        raise InputError(
            f"{where('index', 'alias')}: index.collection keeps its name: leave out index.alias"
        )
    if model.frozen and recipe.loss.matryoshka:
        raise InputError(
            f"{where('loss', 'matryoshka')}: loss.matryoshka needs shorter passage vectors, "
            f"which are frozen with model.train {model.train}: leave it out"
        )
    if model.frozen and recipe.evaluation.passages:
        raise InputError(
            f"{where('evaluation', 'passages')}: evaluation.passages saves encoding passages, "
            f"which model.train {model.train} does not encode: leave it out"
        )


def _check_experiment(recipe: Recipe, place: str) -> None:
    """Check the systems, the indexes and the metric of `tercet eval`."""
    section = recipe.evaluation
    for name, metrics in (
        ("primary_metric", [section.primary_metric]),
        ("metrics", section.metrics),
    ):
        try:
            _ = [parse_metric(metric) for metric in metrics]
        except InputError as error:
            raise InputError(f"{place}: evaluation.{name}: {error}") from None
    if section.gate in ("users", ""):
        raise InputError(
            f"{place}: evaluation.gate {section.gate!r} is unknown: give synthetic, or the name of "
            "a split of judgements"
        )
    for what, labels in (
        ("systems", [system.label for system in section.systems]),
        ("indexes", ["exact", *(i.label for i in section.indexes if i.backend != "exact")]),
    ):
        # Their files are named by slugs.
        _refuse_twice(labels, f"{place}: evaluation.{what}")
    systems = {system.label: system for system in section.systems}
    for label, system in systems.items():
        fault = _fault(system, list(systems))
        if fault:
            raise InputError(f"{place}: evaluation.systems: {label!r} {fault}")
    for label in systems:
        _refuse_cycle(label, systems, (), f"{place}: evaluation.systems")
    if not section.cutoffs:
        raise InputError(f"{place}: evaluation.cutoffs is empty: give at least one")
    kinds = {system.kind for system in section.systems}
    if section.out_of_domain_path and kinds and not {"base", "adapted"} <= kinds:
        raise InputError(
            f"{place}: evaluation.out_of_domain_path compares the systems base and adapted"
        )
    if section.baseline and systems and section.baseline not in systems:
        raise InputError(
            f"{place}: evaluation.baseline {section.baseline!r} is not a system"
            f"{nearest(section.baseline, list(systems))}"
        )


#: Keys that are read beside a plug-in, which gets no other but its `options`.
_BESIDE_A_PLUGIN = {
    *("options", "share", "name", "shard_pairs", "alias", "of", "top_k"),
    *("weight", "student_weight"),
    *("dollars_per_1000_queries", "dollars_per_million_passages"),
    *("info_nce", "info_nce_temperature", "false_negative_margin", "matryoshka"),
}


def _check_plugins(recipe: Recipe, where: Callable[..., str]) -> None:
    """Refuse keys that a plug-in does not get, and options without a plug-in that gets them."""
    for path, settings in settings_within(recipe):
        named = {each.field: each for each in plugins_of(settings, path)}
        if getattr(settings, "options", None) and not named:
            raise InputError(
                f"{where(*path.split('.'))}: {path}.options are a plug-in's, and none is named"
            )
        plain = type(settings)()
        for own in {"kind", "backend", "name"} & named.keys():
            for name, value in vars(settings).items():
                if name not in (own, *_BESIDE_A_PLUGIN) and value != getattr(plain, name):
                    raise InputError(
                        f"{where(*path.split('.'))}: {path}.{name} has no effect beside plug-in "
                        f"{named[own].name}, which gets {path}.options"
                    )


def _fault(system: SystemSettings, labels: Sequence[str]) -> str | None:
    """The first thing that a system's keys lack or contradict, or None."""
    kind = system.kind
    parts = {"hybrid": 2, "rerank": 1}.get(kind, 0)
    unknown = next((name for name in system.of if name not in labels), "")
    faults = {
        f"is {kind}: `of` names {('no', 'one', 'two')[parts]} other, as a list": (
            len(system.of) != parts and kind in get_args(SystemKind)
        ),
        f"is made of {unknown!r}, which is not a system{nearest(unknown, labels)}": unknown,
        f"is {kind}: `truncate_dim` is for base, adapted, dense and api": (
            system.truncate_dim and kind not in ("base", "adapted", "dense", "api")
        ),
        f"is {kind}: `weight` is for hybrid": system.weight is not None and kind != "hybrid",
        f"is {kind}: give its `api`": kind == "api" and not system.api,
        f"is {kind}: `api` is for kind api and rerank": (
            system.api and kind not in ("api", "rerank")
        ),
        f"is {kind}: `api` {system.api} does not {'rerank' if kind == 'rerank' else 'embed'}": (
            (kind, system.api) in (("rerank", "openai"), ("api", "tei"), ("api", "vllm"))
        ),
        "reranks by an API: give its model as `teacher`": (
            kind == "rerank" and system.api and not system.teacher
        ),
        f"reranks by {system.api}: give its `endpoint`, the address before /rerank": (
            kind == "rerank" and system.api in ("tei", "vllm") and not system.endpoint
        ),
        **_of_an_api(system),
        f"is {kind}: give its `model`": kind in ("dense", "api") and not system.model,
        "has a `revision` and no `teacher`: the recipe's has its own": (
            kind == "rerank" and system.revision and system.teacher is None
        ),
        "is known by its vectors: give `passages` and `queries`, or neither": (
            kind == "vectors" and bool(system.passages) != bool(system.queries)
        ),
    }
    return next((fault for fault, found in faults.items() if found), None)


def _of_an_api(system: SystemSettings) -> dict[str, bool]:
    """Keys of an API that have no effect beside the others, by the fault."""
    plain, embeds = SystemSettings(), (system.kind, system.api) == ("api", "openai")
    readers = {
        "kind api with api openai": (
            embeds,
            ("query_prompt", "passage_prompt", "query_request", "passage_request"),
        ),
        "an `api`, not cohere": (
            bool(system.api) and (system.kind, system.api) != ("api", "cohere"),
            ("endpoint", "key_variable"),
        ),
        "kind api": (system.kind == "api", ("dollars_per_million_tokens",)),
        "kind rerank with an `api`": (
            system.kind == "rerank" and bool(system.api),
            ("dollars_per_1000_searches",),
        ),
    }
    return {
        f"is {system.kind}: `{name}` is for {reader}": True
        for reader, (reads, names) in readers.items()
        for name in names
        if not reads and getattr(system, name) != getattr(plain, name)
    }


def _refuse_twice(labels: Sequence[str], place: str) -> None:
    seen: dict[str, str] = {}
    for label in labels:
        if slug(label) in seen:
            raise InputError(
                f"{place}: two are called {label!r} or nearly so: give each a `name` of its own"
            )
        seen[slug(label)] = label


def _refuse_cycle(
    label: str, systems: Mapping[str, SystemSettings], above: tuple[str, ...], place: str
) -> None:
    if label in above:
        raise InputError(
            f"{place}: {' of '.join([*above, label])}: a system cannot be part of itself"
        )
    for part in systems[label].of:
        _refuse_cycle(part, systems, (*above, label), place)
