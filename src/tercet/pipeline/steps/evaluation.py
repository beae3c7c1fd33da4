"""The model that ships, test queries -> metric values, before and after, over the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from tercet import modeling, retrieval
from tercet.core.artifacts import Writer
from tercet.core.console import console
from tercet.core.mapped import Vectors, map_scratch, new_scratch
from tercet.core.metric_names import parse_metric
from tercet.core.schema import Encoder, Index, Qrels, Query, Ranking
from tercet.core.text import difference_text
from tercet.modeling.training.model_selection import read_metrics
from tercet.pipeline.hybrids import Asked, Ways, held_out, ways_of
from tercet.pipeline.needs import Needs
from tercet.pipeline.run import Inputs, Step
from tercet.pipeline.steps.model import Model, gate_of, tested_on
from tercet.pipeline.verdict import Evidence, Reported, Selection, Verdict, verdict_of

#: Metric -> test query id -> value.
Values = Mapping[str, Mapping[str, float]]

#: Passages whose vectors are compared with those that a server holds.
_SAMPLE = 16
#: Systems of the artifact: `HYBRID` and `WEIGHTED` fuse a system's rankings with BM25's, by
#: reciprocal ranks and by a weighted sum of scores.
BASE, ADAPTED, BM25 = "zero-shot", "adapted", "bm25"
HYBRID, WEIGHTED = "bm25+{}", "bm25+{} by scores"


class Evaluation(Step):
    """Measure the student and the adapted model on the test queries; publish the latter's index.

    Both are searched alone and fused with BM25, as many a user's search does: by reciprocal ranks,
    and by a weighted sum of scores whose weight held-out queries choose. Where the base model
    ships, there is nothing else to measure: the adapted model's values are its own.

    `model` is the step before: if it has just run, its index holds the model's passages already.
    """

    name = "evaluation"
    needs = Needs(
        artifacts=("corpus", "embeddings", "student", "triplets", "model"),
        keys=(
            *("metrics", "index.settings", "index.alias", "corpus.test_split", "lexical"),
            *("evaluation.primary_metric", "evaluation.leave_out", "evaluation.unanswerable"),
        ),
        unrecorded_keys=(
            # How the model is read: the student's artifact records it.
            *("model.pooling", "model.query_prompt", "model.passage_prompt", "model.max_length"),
            *("model.query_max_length", "model.precision"),
            *("model.query_request", "model.passage_request"),
            *("model.name", "model.api", "model.dollars", "model.frozen"),
            *("model.endpoint", "model.key_variable", "model.dollars_per_million_tokens"),
            *("name", "folder", "alias", "index"),
            *("corpus.source", "corpus.path", "corpus.tenant", "corpus.passages.id"),
            # Which judged queries are left to report.
            *("evaluation.gate", "seed"),
            # Who wrote the queries: they are in the triplets.
            "queries.generators",
        ),
    )
    revision = 4

    def __init__(self, model: Model) -> None:
        self._model = model

    def condense(self, inputs: Inputs) -> dict[str, Any]:
        """Of the gate, whether it leaves a half of the judged queries, and which."""
        recipe = inputs.recipe
        if recipe.evaluation.gate != recipe.corpus.test_split:
            return {}
        return {"half": tested_on(inputs)}

    def make(self, inputs: Inputs, writer: Writer) -> None:
        """Write every test query's metric values, zero-shot and adapted, and the verdict."""
        search = _Search(inputs)
        ships_base = inputs["model"].facts["base_kept"]
        index = self._model.index
        if ships_base and index:
            index.discard()
        search.fill(BASE, inputs.starting_model, inputs.vectors, publish=ships_base)
        if ships_base:
            search.copy(BASE, ADAPTED)
        else:
            adapted = inputs.components.adapted(inputs["model"].path)
            if index:
                search.measure(ADAPTED, adapted, index)
                _serve(inputs, adapted, index)
            else:
                search.fill(ADAPTED, adapted, _vectors(inputs, adapted), publish=True)
        retrieval.write_figures(writer, search.values)
        writer.facts |= {name: inputs.split(name)[2] for name in inputs.splits}
        writer.facts |= {"hybrid": {name: asdict(each) for name, each in search.hybrids.items()}}
        writer.facts |= _facts(_verdict(inputs, search))

    def after(self, inputs: Inputs) -> None:
        """A server that lost some of the model's passages, or never had them, gets them again."""
        index, passages = inputs.components.make_index(), inputs.passages

        def sample() -> tuple[list[str], np.ndarray]:
            rows = np.random.default_rng(0).permutation(len(passages))[:_SAMPLE].tolist()
            adapted = inputs.components.adapted(inputs["model"].path)
            texts = [passages.contents[row] for row in rows]
            frozen = inputs.recipe.model.frozen
            vectors = inputs.vectors[rows] if frozen else adapted.encode_passages(texts)
            return [passages.ids[row] for row in rows], np.asarray(vectors)

        try:
            published = retrieval.is_published(index, inputs.recipe.alias, len(passages), sample)
        finally:
            index.discard()
        if not published:
            adapted = inputs.components.adapted(inputs["model"].path)
            _serve(inputs, adapted, _filled(inputs, _vectors(inputs, adapted)))


class _Search:
    """Measures the test queries: dense searches, and their fusion with BM25's rankings."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs, self._metrics = inputs, inputs.recipe.metrics
        self._depth = max(k for _, k in map(parse_metric, self._metrics))
        self._held_out_metric = _held_out_metric(inputs)
        # It reads each passage once, in a small part of the time that a model takes to encode it.
        console.print(f"      BM25 over {len(inputs.passages):,} passages, for the hybrid search")
        bm25 = retrieval.BM25Retriever(
            inputs.passages, ids=inputs.passages.ids, **inputs.recipe.lexical
        )

        def asked(queries: Sequence[Query], qrels: Qrels) -> Asked:
            depth = retrieval.deeper(queries, max(retrieval.FUSED, self._depth))
            return Asked(queries, qrels, bm25.search([query.text for query in queries], depth))

        self._test = asked(*inputs.split("test")[:2])
        self._held_out = asked(*held_out(inputs))
        #: By system.
        self.values: dict[str, Values] = {BM25: self._measured(self._test.lexical)}
        self.hybrids: dict[str, Ways] = {}

    def measure(self, name: str, encoder: Encoder, index: Index) -> None:
        """The values of an encoder's system and of both hybrids, over an index of its passages."""
        ways = ways_of(encoder, index, self._held_out, self._held_out_metric)
        queries, lexical = self._test.queries, self._test.lexical
        dense, deep = retrieval.search_deep(encoder, index, queries, self._depth)
        enough = retrieval.deeper(queries, self._depth)
        self.hybrids[name], self.values[name] = ways, self._measured(dense)
        for system, share in ((HYBRID, None), (WEIGHTED, ways.share)):
            fused = [
                retrieval.fuse(pair, enough, share) for pair in zip(lexical, deep, strict=True)
            ]
            self.values[system.format(name)] = self._measured(fused)

    def copy(self, name: str, other: str) -> None:
        """Give `other` the values of `name`, for it is the same model."""
        self.hybrids[other] = self.hybrids[name]
        for system in ("{}", HYBRID, WEIGHTED):
            self.values[system.format(other)] = self.values[system.format(name)]

    def fill(
        self, name: str, encoder: modeling.SimilarityEncoder, vectors: Vectors, *, publish: bool
    ) -> None:
        """As `measure`, in a fresh index, discarded or, to `publish` it, given the alias."""
        index = _filled(self._inputs, vectors)
        try:
            self.measure(name, encoder, index)
        except BaseException:
            index.discard()
            raise
        if publish:
            _serve(self._inputs, encoder, index)
        else:
            index.discard()

    def _measured(self, rankings: Sequence[Ranking]) -> Values:
        run = retrieval.measured(self._test.queries, rankings, self._depth)
        return retrieval.evaluate(self._test.qrels, run, self._metrics)


def _held_out_metric(inputs: Inputs) -> str:
    """The known-item metric that chose the model."""
    arguments = inputs["model"].manifest["plan"]["settings"]["weight_arguments"]
    return str(arguments["metric_for_best_model"])


def _filled(inputs: Inputs, vectors: Vectors) -> Index:
    index = inputs.new_index()
    try:
        index.build(inputs.passages.ids, vectors)
    except BaseException:
        index.discard()
        raise
    return index


def _serve(inputs: Inputs, ships: modeling.SimilarityEncoder, index: Index) -> None:
    """Give an index of the passages of what ships the alias; what it replaces stays a while."""
    folder = inputs["model"].path
    retrieval.publish(index, inputs.recipe.alias, lambda: inputs.components.stamp(ships, folder))


def _vectors(inputs: Inputs, adapted: Encoder) -> Vectors:
    """The passages' vectors by the model that ships, float32 [passages, dimension]."""
    if inputs.recipe.model.frozen or inputs["model"].facts["base_kept"]:
        return inputs.vectors
    shape = len(inputs.passages), adapted.dimension
    path = new_scratch(inputs.recipe.folder, *shape)
    vectors = map_scratch(path, *shape)
    path.unlink()
    contents = inputs.passages.contents
    modeling.encode_blocks(adapted, inputs.passages.ids, contents, vectors, name="what ships")
    return vectors


# ── the verdict ──────────────────────────────────────────────────────────────────────────────────


def _verdict(inputs: Inputs, search: _Search) -> Verdict:
    """What held-out queries chose, and what the test queries say of it."""
    values = search.values
    model, primary = inputs["model"], inputs.recipe.evaluation.primary_metric
    metrics = read_metrics(model)
    choice = model.facts["weight"], model.facts["best_weight"]
    chosen = Selection.of(metrics, *choice, _held_out_metric(inputs), primary)
    evidence: Evidence | None = None
    if chosen.weight:
        evidence = Evidence.of(primary, values[BASE][primary], values[ADAPTED][primary])
    elif model.facts["tested_on"] == tested_on(inputs) and primary in metrics[0.0]["test"]:
        before, after = (metrics[weight]["test"][primary] for weight in (0.0, max(metrics)))
        evidence = Evidence.of(primary, before, after)
    split = inputs.recipe.corpus.test_split if inputs.judged().qrels else ""
    return verdict_of(
        chosen,
        Reported(evidence, split) if evidence else None,
        gate=gate_of(inputs.recipe),
        more=[
            *_of_hybrids(primary, values, adapted=chosen.weight > 0),
            _of_ways(primary, values, search.hybrids[ADAPTED]),
            *_of_writer(inputs),
        ],
    )


def _of_writer(inputs: Inputs) -> list[str]:
    """A sentence on synthetic queries that no model wrote."""
    if any(settings.kind != "spans" for settings in inputs.recipe.queries.generators):
        return []
    return [
        "The synthetic queries are words cut from passages (queries.generators: spans), which "
        "people's own queries may differ from; a language model writes whole ones (kind: causal)."
    ]


def _of_hybrids(primary: str, values: Mapping[str, Values], *, adapted: bool) -> list[str]:
    """Sentences on the hybrid search: its gain, and whether it needs no training to be ahead."""

    def of(system: str) -> Mapping[str, float]:
        return values[system][primary]

    def mean(system: str) -> float:
        return float(np.mean([*of(system).values()]))

    def text(before: str, after: str) -> str:
        found = Evidence.of(primary, of(before), of(after)).interval
        return difference_text(found.difference, found.low, found.high)

    base, sentences = HYBRID.format(BASE), []
    if adapted:
        after = HYBRID.format(ADAPTED)
        sentences.append(
            f"In a hybrid search with BM25 {primary} goes from {mean(base):.4f} to "
            f"{mean(after):.4f}: {text(base, after)}."
        )
    best = max((BASE, ADAPTED) if adapted else (BASE,), key=mean)
    if mean(BM25) > mean(best):
        sentences.append(
            f"BM25 alone has {primary} {mean(BM25):.4f}, more than the better model alone "
            f"({mean(best):.4f}): {text(best, BM25)}."
        )
    if mean(base) > mean(best):
        than = "either model alone" if adapted else "that model alone"
        sentences.append(
            f"BM25 and the base model together, without any training, have {primary} "
            f"{mean(base):.4f}, more than {than} ({mean(best):.4f}): {text(best, base)}."
        )
    return sentences


def _of_ways(primary: str, values: Mapping[str, Values], ways: Ways) -> str:
    """The way to search with what ships, as held-out queries choose it."""
    share = ways.share
    text, system = {
        "alone": ("alone", ADAPTED),
        "ranks": ("with BM25, by reciprocal rank fusion", HYBRID.format(ADAPTED)),
        "scores": (
            f"with BM25, by a weighted sum of scores, {share:g} the model's (Weaviate: "
            f"relativeScoreFusion with alpha {share:g})",
            WEIGHTED.format(ADAPTED),
        ),
    }[ways.best]
    mean = float(np.mean([*values[system][primary].values()]))
    return f"Held-out queries find most with what ships {text}: {primary} {mean:.4f}."


def _facts(verdict: Verdict) -> dict[str, Any]:
    """The verdict as facts of a manifest; `evaluation.verdict.run_verdict` reads them."""
    found = asdict(verdict) | {"more": [*verdict.more]}
    return {("verdict" if name == "text" else name): value for name, value in found.items()}
