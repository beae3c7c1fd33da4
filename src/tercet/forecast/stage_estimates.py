"""Estimates the cost of every stage of a run from a probe on a sample.

Existing artifacts are only used to decide which stages are finished.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cached_property

import numpy as np

from tercet import modeling
from tercet.config.index import IndexSettings
from tercet.config.recipe import Recipe
from tercet.core.artifacts import NotMade, only_existing
from tercet.core.processes import process
from tercet.core.resources import Resources
from tercet.core.schema import InputError
from tercet.core.text import seconds_text
from tercet.data.embeddings import shard_size
from tercet.data.mixture import tried_mixtures
from tercet.forecast.counts import count
from tercet.forecast.forecast import ROWS, Expected, Forecast, TrainingSize, settings_of
from tercet.forecast.probe import Probe, probe
from tercet.forecast.throughput import padded
from tercet.modeling.encoders.query_adapter import EPOCHS
from tercet.modeling.training.adapter_trial import FEWEST, MOST_TRAINED
from tercet.pipeline.hybrids import MOST_ASKED
from tercet.pipeline.pipeline import Pipeline

#: Copies of the weights in a checkpoint: the weights and two optimizer moments.
_SAVED = 3


def estimate(pipeline: Pipeline) -> Forecast:
    """Forecast every stage of the recipe's run. Raises InputError where the run would."""
    check_forecast(pipeline.recipe)
    return forecast_of(pipeline, probe(pipeline))


def check_forecast(recipe: Recipe) -> None:
    """Raise InputError where a run cannot be forecast."""
    if process()[1] > 1:
        raise InputError("a forecast needs a single process: tercet forecast RECIPE")
    if recipe.model.frozen:
        raise InputError(
            "a forecast supports only model.train both. With query_encoder or query_adapter the "
            "earlier stages take the same time, training takes minutes or seconds"
        )


def forecast_of(pipeline: Pipeline, probe: Probe, recipe: Recipe | None = None) -> Forecast:
    """Scale a probe to the whole run of the pipeline's recipe, or of one with other queries."""
    recipe, start = recipe or pipeline.recipe, time.monotonic()
    done = _finished(pipeline)
    estimates = _Estimates(recipe, probe)
    stages = {
        name: replace(
            getattr(estimates, name)(), done=name in done, rows=estimates.counts.rows[name]
        )
        for name in ROWS
    }
    return Forecast(
        stages=stages,
        size=estimates.size(),
        notes=estimates.notes(),
        settings=settings_of(recipe),
        seconds=probe.seconds + time.monotonic() - start,
    )


def _finished(pipeline: Pipeline) -> set[str]:
    """The stages whose artifacts the run would reuse."""
    found = set[str]()
    try:
        with only_existing():
            for name in ROWS:
                if name != "evaluation":  # reading it may fill an index
                    getattr(pipeline, name)
                elif not pipeline.stage("evaluation").finished()[0]:
                    break
                found.add(name)
    except NotMade:
        pass
    return found


class _Estimates:
    """Tokens, seconds and bytes of each stage, scaled from a probe."""

    def __init__(self, recipe: Recipe, probe: Probe) -> None:
        self.recipe, self.probe = recipe, probe
        self.args = modeling.training_arguments(recipe)
        self.counts = count(recipe, probe)

    # ── stages ───────────────────────────────────────────────────────────────────────────────

    def corpus(self) -> Expected:
        """The source is read twice, and the passages written."""
        reading = self.probe.reading
        disk = reading.size + reading.size_of_judged
        return self._expected(2 * reading.seconds, self.probe.read, disk)

    def queries(self) -> Expected:
        """Each generator writes about its share of the sampled passages."""
        c, written = self.counts, self.probe.written
        shares = self._shares()
        read = sum(n * each.tokens_read for n, each in zip(shares, written, strict=True))
        new = sum(n * each.tokens_written for n, each in zip(shares, written, strict=True))
        seconds = [each.begin + n * each.seconds for n, each in zip(shares, written, strict=True)]
        text = np.mean([len(q.encode()) + len(p.id) for w in written for q, p in w.queries])
        disk = round((c.written + c.queries) * (text + len(written[0].name) + 12) + 8 * c.queries)
        return self._expected(
            sum(seconds),
            _combined([(s, each.taken) for s, each in zip(seconds, written, strict=True)]),
            disk,
            round(read + new),
            dollars=sum(n * (each.dollars or 0) for n, each in zip(shares, written, strict=True)),
            tokens_read=round(read),
            tokens_written=round(new),
        )

    def _shares(self) -> list[float]:
        """Number of passages for each generator."""
        shares = [each.share for each in self.probe.written]
        return [self.counts.sampled * share / sum(shares) for share in shares]

    def embeddings(self) -> Expected:
        """All passages are encoded, in shards sorted by length."""
        probe, c = self.probe, self.counts
        tokens = round(float(probe.embedded.lengths.mean()) * c.passages)
        size = self._vectors(c.passages)
        shard = self._vectors(min(c.passages, shard_size(c.passages)))
        taken = replace(probe.embedded.taken, peak=_plus(probe.embedded.taken.peak, shard))
        return self._expected(self._encoding(c.passages), taken, size, tokens)

    def _vectors(self, passages: int) -> int:
        return 4 * self.probe.embedded.vectors.shape[1] * passages

    def _held(self, index: IndexSettings) -> int:
        """Bytes of vectors that an index keeps in memory, where other indexes map files."""
        in_memory = index.backend == "faiss" and not index.on_disk
        return self._vectors(self.counts.passages) if in_memory else 0

    def _encoding(self, passages: int) -> float:
        """Seconds of encoding `passages`, with the padding of a whole shard."""
        embedded = self.probe.embedded
        lengths = np.resize(embedded.lengths, min(passages, shard_size(passages)))
        whole = padded(lengths, embedded.batch_tokens) / len(lengths) * passages
        return whole * embedded.seconds_per_token

    def negatives(self) -> Expected:
        """Each retriever is built, and searched with every query."""
        probe, c = self.probe, self.counts
        build, search = probe.mining
        seconds = build + c.queries * (search + probe.embedded.seconds_per_query)
        seconds += sum(each.begin + c.queries * each.seconds for each in probe.lists.found)
        candidates = c.queries * c.candidates
        disk = candidates * (self._id + 4 + 8 * len(probe.lists.found)) + c.queries * self._query
        held = self._held(self.recipe.negatives.index)
        taken = replace(probe.mined, peak=_plus(probe.mined.peak, held))
        return self._expected(seconds, taken, disk)

    @property
    def _id(self) -> float:
        """Mean bytes of a passage's id."""
        return float(np.mean([len(p.id.encode()) for p in self.probe.reading.sample]))

    @property
    def _query(self) -> float:
        """Mean bytes of a query with its id and offsets in an Arrow file."""
        texts = [len(query.encode()) for query, _ in self.probe.lists.queries]
        return float(np.mean(texts)) + len(str(self.counts.queries)) + 9

    def scores(self) -> Expected:
        """Each different pair is scored by each scorer, in shards sorted by length."""
        c, scored = self.counts, self.probe.scored
        shards = [each.shard_pairs for each in self.recipe.teacher.each.values()]
        seconds = [s.seconds(c.pairs, shard) for s, shard in zip(scored, shards, strict=True)]
        tokens = sum(each.tokens_per_pair for each in scored) * c.pairs
        many, listed = len(scored), c.listed
        disk = 20 * many * c.pairs + listed * (self._id + 4 + 4 * many) + c.queries * self._query
        return self._expected(
            sum(seconds),
            _combined([(s, each.taken) for s, each in zip(seconds, scored, strict=True)]),
            disk,
            round(tokens),
            dollars=sum((each.dollars or 0) * c.queries for each in scored),
            **{each.name: s for each, s in zip(scored, seconds, strict=True)},
        )

    def triplets(self) -> Expected:
        """Every query is encoded again."""
        probe, c = self.probe, self.counts
        listed = c.listed
        disk = listed * (self._id + 12) + c.queries * (self._query + 10)
        return self._expected(c.queries * probe.embedded.seconds_per_query, probe.mined, disk)

    def targets(self) -> Expected:
        """A query adapter is trained for each weight that is tried, unless the recipe sets it."""
        probe, c = self.probe, self.counts
        seconds = 0.0
        validation = round(c.queries * self.recipe.triplets.held_out * 2 / 3)
        teacher = self.recipe.teacher
        tried = tried_mixtures(len(teacher.names), teacher.student_weight, teacher.weights)
        if tried and validation >= FEWEST:
            trained = min(c.train, MOST_TRAINED)
            seconds = tried * EPOCHS * trained * probe.adapting
            seconds += (trained + validation) * probe.embedded.seconds_per_query
        disk = 4 * c.listed + 10 * c.queries
        return self._expected(seconds, probe.mined, disk)

    def model(self) -> Expected:
        """Training steps, evaluations, and interpolations between base and trained weights."""
        probe, c, section = self.probe, self.counts, self.recipe.evaluation
        training = self.tokens * probe.rehearsal.seconds_per_token
        training += c.steps * probe.rehearsal.update
        # With one interpolation step the last epoch ships as it is: it is not encoded again.
        steps = section.interpolation_steps
        encoded = c.evaluations + (steps if steps > 1 else 0)
        passages = min(section.passages or c.passages, c.passages)
        searched = 1 + c.evaluations + steps + 1
        encoding = encoded * self._encoding(passages)
        searching = searched * self._searching(c.held_out)
        checkpoint = 4 * (probe.parameters + (_SAVED - 1) * probe.rehearsal.trained_parameters)
        kept = min(self.args.save_total_limit or c.evaluations, c.evaluations)
        weights = 4 * probe.parameters
        # The base weights stay in memory for interpolation.
        extra = weights + self._held(self.recipe.index)
        parts = [(training, probe.trained), (encoding + searching, probe.embedded.taken)]
        return self._expected(
            training + encoding + searching,
            replace(_combined(parts), peak=_plus(probe.trained.peak, extra)),
            weights + kept * checkpoint,
            round(self.tokens),
            training_seconds=training,
            encoding_seconds=encoding,
            searching_seconds=searching,
        )

    @cached_property
    def tokens(self) -> float:
        """Tokens of all training batches; a passage counts once per batch."""
        c, probe, k = self.counts, self.probe, self.recipe.negatives_per_query
        epochs = c.batches * self.args.per_device_train_batch_size / c.train
        batch = min(self.args.per_device_train_batch_size, c.train)
        k = min(k, self.recipe.negatives.candidates)
        different = probe.lists.passages_a_batch(batch, k, self.recipe.seed) / batch
        each = probe.embedded.tokens_per_query + different * probe.tokens_per_passage
        return round(epochs, 6) * c.train * each

    def _searching(self, held_out: int) -> float:
        """Seconds of filling the index and searching it with held-out and test queries."""
        (build, search), rates = self.probe.served, self.probe.embedded
        judged = self.probe.reading.tested
        seconds = build + judged * (search + rates.seconds_per_judged)
        synthetic = held_out + self.counts.tested - judged
        return seconds + synthetic * (search + rates.seconds_per_query)

    def evaluation(self) -> Expected:
        """Test and held-out queries are searched with the base model, the adapted one, and BM25.

        BM25's part is known where it mines negatives too.
        """
        held_out = min(self.counts.held_out, MOST_ASKED)
        seconds = 2 * self._searching(held_out)
        retrievers = zip(self.recipe.negatives.retrievers, self.probe.lists.found, strict=True)
        lexical = [found for retriever, found in retrievers if retriever.kind == "bm25"]
        asked = self.counts.tested + held_out
        seconds += sum(each.begin + asked * each.seconds for each in lexical[:1])
        if self.recipe.evaluation.passages:  # the index during training holds a sample
            seconds += self._encoding(self.counts.passages)
        ids = [len(query.id.encode()) for query in self.probe.reading.judged] or [6]
        names = [len(metric) for metric in self.recipe.metrics]
        # Names of system, metric and query, and the value.
        disk = self.counts.metric_values * (8 + float(np.mean(names) + np.mean(ids)) + 3 * 4 + 8)
        taken = replace(self.probe.embedded.taken, peak=self.probe.trained.peak)
        return self._expected(seconds, taken, disk)

    def _expected(
        self,
        seconds: float,
        taken: Resources,
        disk: float,
        tokens: int = 0,
        dollars: float = 0.0,
        **parts: float,
    ) -> Expected:
        return Expected(
            rows=0,
            tokens=tokens,
            seconds=seconds,
            gflops=taken.gflops,
            peak=taken.peak,
            disk=round(disk),
            dollars=dollars,
            parts=parts,
        )

    # ── the whole run ─────────────────────────────────────────────────────────────────────────────

    def size(self) -> TrainingSize:
        """Training tokens and parameters of the student."""
        probe, c = self.probe, self.counts
        return TrainingSize(
            parameters=probe.parameters,
            trained_parameters=probe.rehearsal.trained_parameters,
            tokens=round(self.tokens),
            queries=c.train,
            steps=c.steps,
            tokens_of_a_triplet=probe.embedded.tokens_per_query + 2 * probe.tokens_per_passage,
        )

    def notes(self) -> list[str]:
        """The sample sizes, and what the forecast leaves out."""
        probe = self.probe
        written = sum(len(each.queries) for each in probe.written)
        notes = [
            f"based on {written:,} generated queries, {len(probe.embedded.passages):,} embedded "
            f"passages and {max(len(each.lengths) for each in probe.scored):,} pairs "
            f"({probe.seconds:.0f} s)",
            *self._of_scorers(),
        ]
        unpriced = [each.name for each in probe.written if each.dollars is None]
        unpriced += [each.name for each in probe.scored if each.dollars is None]
        if unpriced:
            notes.append(f"the price of {' and '.join(unpriced)} is unknown and not included")
        if probe.reading.note:
            notes.append(probe.reading.note)
        if self.recipe.index.backend == "weaviate":
            notes.append(
                "the Weaviate server's time for filling and searching its index is not included"
            )
        filters = self.recipe.triplets
        if filters.filter_rank or filters.filter_max_matches:
            notes.append("queries that filter_rank and filter_max_matches will drop are included")
        if self.recipe.evaluation.early_stopping_patience:
            notes.append("early_stopping_patience may end training earlier")
        return notes

    def _of_scorers(self) -> list[str]:
        """What each of several scorers takes."""
        if len(self.probe.scored) == 1:
            return []
        taken = self.scores().parts
        each = [
            f"{scored.name} {seconds_text(taken[scored.name])}"
            + (f" and ${scored.dollars * self.counts.queries:,.2f}" if scored.dollars else "")
            for scored in self.probe.scored
        ]
        return [f"of the scores: {', '.join(each)}"]


def _combined(all_taken: list[tuple[float, Resources]]) -> Resources:
    """The machine's mean speed, weighted by seconds, and the largest peak of memory."""
    peaks = [taken.peak for _, taken in all_taken if taken.peak is not None]
    seconds = sum(each for each, _ in all_taken) or 1.0
    speed = sum(each * taken.gflops for each, taken in all_taken) / seconds
    return Resources(gflops=speed, peak=max(peaks, default=None))


def _plus(peak: int | None, more: int) -> int | None:
    return None if peak is None else peak + more
