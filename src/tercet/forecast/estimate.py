"""A forecast of a run before any work: what a run in small measured, reckoned up to the whole.

What the run has made already is asked for one thing only: whether it is still of this recipe.
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
from tercet.data.embeddings import shard_size
from tercet.data.targets import WEIGHTS
from tercet.forecast.counts import count
from tercet.forecast.forecast import ROWS, Expected, Forecast, TrainingSize, settings_of
from tercet.forecast.probe import SmallRun, small_run
from tercet.forecast.timing import padded
from tercet.modeling.encoders.query_adapter import EPOCHS
from tercet.modeling.training.adapter_trial import FEWEST, MOST_TRAINED
from tercet.pipeline.pipeline import Pipeline

#: Copies of the weights in a checkpoint: they and the optimizer's two moments.
SAVED = 3


def plan(pipeline: Pipeline) -> Forecast:
    """What is expected of each stage of the recipe's run. Raises InputError as the run would."""
    if process()[1] > 1:
        raise InputError("a plan is made in one process: python train.py RECIPE --forecast")
    if pipeline.recipe.model.frozen:
        raise InputError(
            "--forecast knows no model.train query_encoder or query_adapter yet: its stages before "
            "the model are those of model.train both; training takes minutes, an adapter seconds"
        )
    start = time.monotonic()
    done = finished(pipeline)
    reckoning = Reckoning(pipeline.recipe, small_run(pipeline))
    stages = {
        name: replace(
            getattr(reckoning, name)(), done=name in done, rows=reckoning.counts.rows[name]
        )
        for name in ROWS
    }
    return Forecast(
        stages=stages,
        size=reckoning.size(),
        notes=reckoning.notes(),
        settings=settings_of(pipeline.recipe),
        seconds=time.monotonic() - start,
    )


def finished(pipeline: Pipeline) -> set[str]:
    """The stages that the run would reuse. Nothing is made."""
    found = set[str]()
    try:
        with only_existing():
            for name in ROWS:
                if name != "evaluation":  # asking for it may fill an index anew
                    getattr(pipeline, name)
                elif not pipeline.stage("evaluation").finished()[0]:
                    break
                found.add(name)
    except NotMade:
        pass
    return found


class Reckoning:
    """Rows, tokens, seconds and bytes of each stage, from what a small run measured."""

    def __init__(self, recipe: Recipe, small: SmallRun) -> None:
        self.recipe, self.small = recipe, small
        self.args = modeling.training_arguments(recipe)
        self.counts = count(recipe, small)

    # ── stages ───────────────────────────────────────────────────────────────────────────────

    def corpus(self) -> Expected:
        """Read once more, and written."""
        reading = self.small.reading
        disk = reading.size + reading.size_of_judged
        return self._expected(2 * reading.seconds, self.small.read, disk)

    def queries(self) -> Expected:
        """Each generator writes about its share of the sampled passages."""
        c, written = self.counts, self.small.written
        shares = self._shares()
        read = sum(n * each.tokens_read for n, each in zip(shares, written, strict=True))
        new = sum(n * each.tokens_written for n, each in zip(shares, written, strict=True))
        seconds = [each.begin + n * each.seconds for n, each in zip(shares, written, strict=True)]
        text = np.mean([len(q.encode()) + len(p.id) for w in written for q, p in w.queries])
        disk = round((c.written + c.queries) * (text + len(written[0].name) + 12) + 8 * c.queries)
        return self._expected(
            sum(seconds),
            _together([(s, each.taken) for s, each in zip(seconds, written, strict=True)]),
            disk,
            round(read + new),
            tokens_read=round(read),
            tokens_written=round(new),
        )

    def _shares(self) -> list[float]:
        """Passages that each generator writes about."""
        shares = [each.share for each in self.small.written]
        return [self.counts.sampled * share / sum(shares) for share in shares]

    def embeddings(self) -> Expected:
        """All passages, in shards sorted by length."""
        small, c = self.small, self.counts
        tokens = round(float(small.embedded.lengths.mean()) * c.passages)
        size = self._vectors(c.passages)
        shard = self._vectors(min(c.passages, shard_size(c.passages)))
        taken = replace(small.embedded.taken, peak=_plus(small.embedded.taken.peak, shard))
        return self._expected(self._encoding(c.passages), taken, size, tokens)

    def _vectors(self, passages: int) -> int:
        return 4 * self.small.embedded.vectors.shape[1] * passages

    def _held(self, index: IndexSettings) -> int:
        """Bytes of vectors that an index holds in memory: the others leave them in files."""
        in_memory = index.backend == "faiss" and not index.on_disk
        return self._vectors(self.counts.passages) if in_memory else 0

    def _encoding(self, passages: int) -> float:
        """Seconds of encoding so many passages, padded as a whole shard of them is."""
        embedded = self.small.embedded
        lengths = np.resize(embedded.lengths, min(passages, shard_size(passages)))
        whole = padded(lengths, embedded.batch_tokens) / len(lengths) * passages
        return whole * embedded.seconds_per_token

    def negatives(self) -> Expected:
        """Each retriever built and searched with every query."""
        small, c = self.small, self.counts
        build, search = small.mining
        seconds = build + c.queries * (search + small.embedded.seconds_per_query)
        seconds += sum(each.begin + c.queries * each.seconds for each in small.lists.found)
        candidates = c.queries * c.candidates
        disk = candidates * (self._id + 4 + 8 * len(small.lists.found)) + c.queries * self._query
        held = self._held(self.recipe.negatives.index)
        taken = replace(small.mined, peak=_plus(small.mined.peak, held))
        return self._expected(seconds, taken, disk)

    @property
    def _id(self) -> float:
        """Bytes of a passage's id."""
        return float(np.mean([len(p.id.encode()) for p in self.small.reading.sample]))

    @property
    def _query(self) -> float:
        """Bytes of a query with its id and its place in an Arrow file."""
        texts = [len(query.encode()) for query, _ in self.small.lists.queries]
        return float(np.mean(texts)) + len(str(self.counts.queries)) + 9

    def scores(self) -> Expected:
        """Each different pair, sorted by length."""
        small, c = self.small, self.counts
        scored = small.scored
        tokens = small.tokens_per_pair * c.pairs
        alike = np.resize(scored.lengths, min(c.pairs, self.recipe.teacher.shard_pairs))
        waste = padded(alike, scored.batch_tokens) / alike.sum()
        seconds = scored.begin + c.pairs * scored.seconds_per_pair
        seconds += tokens * waste * scored.seconds_per_token
        listed = c.listed
        disk = 20 * c.pairs + listed * (self._id + 8) + c.queries * self._query
        return self._expected(seconds, scored.taken, disk, round(tokens))

    def triplets(self) -> Expected:
        """Every query encoded once more."""
        small, c = self.small, self.counts
        listed = c.listed
        disk = listed * (self._id + 12) + c.queries * (self._query + 10)
        return self._expected(c.queries * small.embedded.seconds_per_query, small.mined, disk)

    def targets(self) -> Expected:
        """A query adapter for each of the weights that are tried, where any is."""
        small, c = self.small, self.counts
        seconds = 0.0
        validation = round(c.queries * self.recipe.triplets.held_out * 2 / 3)
        if self.recipe.triplets.teacher_weight is None and validation >= FEWEST:
            learnt = min(c.train, MOST_TRAINED)
            seconds = len(WEIGHTS) * EPOCHS * learnt * small.adapting
            seconds += (learnt + validation) * small.embedded.seconds_per_query
        disk = 4 * c.listed + 10 * c.queries
        return self._expected(seconds, small.mined, disk)

    def model(self) -> Expected:
        """Steps; evaluations of each epoch; mixtures of the model as it came and as trained."""
        small, c, section = self.small, self.counts, self.recipe.evaluation
        training = self.tokens * small.rehearsal.seconds_per_token
        training += c.steps * small.rehearsal.update
        # Weights of a last epoch that ships as it is are not encoded again.
        steps = section.interpolation_steps
        encoded = c.evaluations + (steps if steps > 1 else 0)
        passages = min(section.passages or c.passages, c.passages)
        searched = 1 + c.evaluations + steps + 1
        encoding, searching = encoded * self._encoding(passages), searched * self._searching()
        checkpoint = 4 * (small.parameters + (SAVED - 1) * small.rehearsal.trained_parameters)
        kept = min(self.args.save_total_limit or c.evaluations, c.evaluations)
        weights = 4 * small.parameters
        # The model as it came is kept beside, for mixtures with it.
        extra = weights + self._held(self.recipe.index)
        parts = [(training, small.trained), (encoding + searching, small.embedded.taken)]
        return self._expected(
            training + encoding + searching,
            replace(_together(parts), peak=_plus(small.trained.peak, extra)),
            weights + kept * checkpoint,
            round(self.tokens),
            training_seconds=training,
            encoding_seconds=encoding,
            searching_seconds=searching,
        )

    @cached_property
    def tokens(self) -> float:
        """Tokens of all training batches: each query, each different passage of a batch once."""
        c, small, k = self.counts, self.small, self.recipe.negatives_per_query
        epochs = c.batches * self.args.per_device_train_batch_size / c.train
        batch = min(self.args.per_device_train_batch_size, c.train)
        k = min(k, self.recipe.negatives.candidates)
        different = small.lists.passages_a_batch(batch, k, self.recipe.seed) / batch
        each = small.embedded.tokens_per_query + different * small.tokens_per_passage
        return round(epochs, 6) * c.train * each

    def _searching(self, *, held_out: bool = True) -> float:
        """Seconds of filling the index, and of searching it with the queries of the splits."""
        (build, search), rates = self.small.served, self.small.embedded
        judged = self.small.reading.tested
        seconds = build + judged * (search + rates.seconds_per_judged)
        synthetic = (self.counts.held_out if held_out else 0) + self.counts.tested - judged
        return seconds + synthetic * (search + rates.seconds_per_query)

    def evaluation(self) -> Expected:
        """The test queries, by the model as it came and as adapted."""
        seconds = 2 * self._searching(held_out=False)
        if self.recipe.evaluation.passages:  # the epochs' index does not hold all
            seconds += self._encoding(self.counts.passages)
        ids = [len(query.id.encode()) for query in self.small.reading.judged] or [6]
        names = [len(measure) for measure in self.recipe.measures]
        # System, measure and query by name, and the figure.
        disk = self.counts.figures * (8 + float(np.mean(names) + np.mean(ids)) + 3 * 4 + 8)
        taken = replace(self.small.embedded.taken, peak=self.small.trained.peak)
        return self._expected(seconds, taken, disk)

    def _expected(
        self, seconds: float, taken: Resources, disk: float, tokens: int = 0, **parts: float
    ) -> Expected:
        return Expected(
            rows=0,
            tokens=tokens,
            seconds=seconds,
            gflops=taken.gflops,
            peak=taken.peak,
            disk=round(disk),
            parts=parts,
        )

    # ── in words ─────────────────────────────────────────────────────────────────────────────

    def size(self) -> TrainingSize:
        """The student beside what it reads."""
        small, c = self.small, self.counts
        return TrainingSize(
            parameters=small.parameters,
            trained_parameters=small.rehearsal.trained_parameters,
            tokens=round(self.tokens),
            queries=c.train,
            steps=c.steps,
            tokens_of_a_triplet=small.embedded.tokens_per_query + 2 * small.tokens_per_passage,
        )

    def notes(self) -> list[str]:
        """What the figures rest on."""
        small = self.small
        written = sum(len(each.queries) for each in small.written)
        notes = [
            f"from {written:,} queries written, {len(small.embedded.passages):,} passages "
            f"embedded and {len(small.scored.lengths):,} pairs tokenised, in {small.seconds:.0f} s"
        ]
        if small.reading.note:
            notes.append(small.reading.note)
        if self.recipe.index.backend == "weaviate":
            notes.append("the server's part of filling and searching its index is not in it")
        filters = self.recipe.triplets
        if filters.filter_rank or filters.filter_max_matches:
            notes.append("what filter_rank and filter_max_matches drop is not known before")
        if self.recipe.evaluation.early_stopping_patience:
            notes.append("training may end earlier, by early_stopping_patience")
        return notes


def _together(all_taken: list[tuple[float, Resources]]) -> Resources:
    """The machine's speed, a mean by the seconds that each part takes, and the most memory."""
    peaks = [taken.peak for _, taken in all_taken if taken.peak is not None]
    seconds = sum(each for each, _ in all_taken) or 1.0
    speed = sum(each * taken.gflops for each, taken in all_taken) / seconds
    return Resources(gflops=speed, peak=max(peaks, default=None))


def _plus(peak: int | None, more: int) -> int | None:
    return None if peak is None else peak + more
