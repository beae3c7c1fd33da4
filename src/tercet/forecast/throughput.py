"""Times each stage's work on a sample for a few seconds; the forecast scales these rates.

Each model is loaded and warmed up, then processes as much as fits its time budget, in batches with
the sizes and the length distribution of the stage.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from tercet import modeling
from tercet.core.resources import Resources, gigaflops, measured
from tercet.core.schema import Index, Passage, Retriever, Teacher
from tercet.forecast.source import KEPT, Reading
from tercet.modeling.api_account import tokens_of
from tercet.modeling.batching import plan_batches

#: Seconds of timed work for embedding, scoring and training.
EMBEDDING, SCORING, TRAINING = 6.0, 6.0, 8.0
#: Texts and pairs that are tokenised for their lengths.
TOKENISED, PAIRS = 4_096, 4_096
_WARM = 8  # untimed items
_DEPTH = 100  # of evaluation searches

_T = TypeVar("_T")
_R = TypeVar("_R")


@dataclass(frozen=True)
class Embedded:
    """Vectors of a sample of passages, and encoding rates."""

    passages: list[Passage]
    vectors: np.ndarray
    #: Tokens per passage of a larger sample, after truncation.
    lengths: np.ndarray
    batch_tokens: int
    seconds_per_token: float  # padding included
    tokens_per_query: float
    seconds_per_query: float
    seconds_per_judged: float
    taken: Resources


@dataclass(frozen=True)
class Found:
    """Rankings of one retriever for the sampled queries over a sample of the passages.

    `part` is the share of the passages that was searched. `begin` and `seconds` (per query) are
    extrapolated: building an index of all passages and searching it.
    """

    share: float
    part: float
    reach: int  # passages in a ranking, at most
    rankings: list[list[Passage]]
    begin: float
    seconds: float


@dataclass(frozen=True)
class Scored:
    """Tokens of each sampled pair, and scoring rates."""

    lengths: np.ndarray
    batch_tokens: int
    seconds_per_token: float  # padding included
    seconds_per_pair: float  # for tokenising
    begin: float
    taken: Resources
    #: Dollars of a query's pairs, None if the price is unknown; 0 of a local model.
    dollars: float | None = 0.0
    #: The scorer, as the recipe names it, and the mean tokens of a pair as it reads them.
    name: str = ""
    tokens_per_pair: float = 0.0

    def seconds(self, pairs: int, shard_pairs: int) -> float:
        """Seconds of scoring so many pairs, with the padding of whole shards."""
        alike = np.resize(self.lengths, min(pairs, shard_pairs))
        waste = padded(alike, self.batch_tokens) / alike.sum()
        read = self.tokens_per_pair * pairs * waste * self.seconds_per_token
        return self.begin + pairs * self.seconds_per_pair + read


def padded(lengths: np.ndarray, batch_tokens: int) -> int:
    """Tokens of texts with these lengths, including padding in batches of `batch_tokens`."""
    batches = plan_batches(lengths, batch_tokens)
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


def paced(
    work: Callable[[list[_T]], _R], items: Sequence[_T], budget: float
) -> tuple[list[_R], list[slice], float]:
    """Apply `work` to growing slices of the items for about `budget` seconds.

    Returns the result of each slice, the slices, and the seconds. A few items warm it up first.
    """
    work(list(items[:_WARM]))
    made, slices, start, size, taken = list[_R](), list[slice](), 0, 4 * _WARM, 0.0
    began = time.perf_counter()
    while start < len(items) and size >= _WARM:
        part = slice(start, min(start + size, len(items)))
        made.append(work(list(items[part])))
        slices.append(part)
        start, taken = part.stop, time.perf_counter() - began
        size = min(2 * size, int(start * (budget / taken - 1)))
    return made, slices, time.perf_counter() - began


def halfway(taken: Resources) -> Resources:
    """`taken` with the mean of the machine's speed before and after the work."""
    taken.gflops = (taken.gflops + gigaflops()) / 2
    return taken


def embed(
    encoder: modeling.BiEncoder,
    passages: list[Passage],
    queries: list[str],
    judged: list[str],
    *,
    budget: float,
) -> Embedded:
    """Time the encoding of passages, which are in random order, and of queries."""
    contents = [passage.contents for passage in passages[:TOKENISED]]
    lengths = np.array([len(ids) for ids in encoder.tokenize(contents, "passage")])
    with measured() as taken:
        made, slices, seconds = paced(encoder.encode_passages, contents, budget)
        start = time.perf_counter()
        encoder.encode_queries(queries)
        of_queries = time.perf_counter() - start
    vectors, tokens_per_query = np.concatenate(made), _tokens_each(encoder, queries)
    longer = _tokens_each(encoder, judged[:TOKENISED]) / tokens_per_query if judged else 1.0
    tokens = sum(padded(lengths[part], encoder.tokens_at_once) for part in slices)
    return Embedded(
        passages[: len(vectors)],
        vectors,
        lengths,
        encoder.tokens_at_once,
        seconds / tokens,
        tokens_per_query,
        of_queries / len(queries),
        longer * of_queries / len(queries),
        halfway(taken),
    )


def _tokens_each(encoder: modeling.BiEncoder, queries: list[str]) -> float:
    return float(np.mean([len(ids) for ids in encoder.tokenize(queries, "query")]))


def search(
    make: Callable[[], Retriever],
    passages: list[Passage],
    queries: list[tuple[str, Passage]],
    reading: Reading,
    *,
    share: float,
    depth: int,
    timed: bool,
) -> Found:
    """Search a sample of the passages at a depth equivalent to `depth` among all passages.

    Without `timed` the times are zero: the student's rates are known from elsewhere.
    """
    start = time.perf_counter()
    retriever = make()
    begin = time.perf_counter() - start
    texts = [query for query, _ in queries]
    retriever.search(texts[:_WARM], 1)
    start = time.perf_counter()
    part = 1 / reading.scale(len(passages))
    reach = max(1, round(depth * part))
    found = retriever.search(texts, min(len(passages), reach + 1))
    seconds = (time.perf_counter() - start) / len(texts)
    by_id = {passage.id: passage for passage in passages}
    rankings = []
    for (_, source), ranking in zip(queries, found, strict=True):
        others = [by_id[id] for id, _ in ranking if by_id[id].contents != source.contents]
        rankings.append(others[:reach])
    if not timed:
        begin = seconds = 0.0
    return Found(share, part, reach, rankings, begin / part, seconds / part)


def score(
    load: Callable[[], Teacher], pairs: list[tuple[str, str]], *, budget: float, per_query: int
) -> Scored:
    """Time the teacher on pairs, which are in random order; `per_query` are those of a query.

    A reranker behind an API scores no more than it is warmed up with.
    """
    start = time.perf_counter()
    teacher = load()
    if isinstance(teacher, modeling.ApiReranker):
        return _asked(teacher, pairs, per_query)
    begin = time.perf_counter() - start
    start = time.perf_counter()
    lengths = teacher.lengths(pairs)
    tokenising = (time.perf_counter() - start) / len(pairs)
    with measured() as taken:
        _, slices, seconds = paced(teacher.score, pairs, budget)
    batch_tokens = getattr(teacher, "batch_tokens", 1)  # of a plug-in: as if there were no padding
    rate = seconds / sum(padded(lengths[part], batch_tokens) for part in slices)
    return Scored(lengths, batch_tokens, rate, tokenising, begin, halfway(taken))


def _asked(teacher: modeling.ApiReranker, pairs: list[tuple[str, str]], per_query: int) -> Scored:
    """Time one call of a reranker, which is paid for."""
    query = pairs[0][0]
    with measured() as taken:
        teacher.score([(query, passage) for _, passage in pairs[:per_query]])
    lengths = np.array([tokens_of(each) + tokens_of(passage) for each, passage in pairs])
    rate = teacher.seconds / lengths[:per_query].sum()
    return Scored(lengths, 1, rate, 0.0, 0.0, halfway(taken), teacher.dollars(1, per_query))


def score_by_terms(
    load: Callable[[], Teacher], pairs: list[tuple[str, str]], *, budget: float, scale: float
) -> Scored:
    """Time BM25, which is built over a sample: one in `scale` of the passages."""
    start = time.perf_counter()
    with measured() as taken:
        scorer = load()
        begin = (time.perf_counter() - start) * scale
        _, slices, seconds = paced(scorer.score, pairs, budget)
    each = seconds / sum(part.stop - part.start for part in slices)
    return Scored(np.ones(len(pairs)), 1, 0.0, each, begin, halfway(taken))


def score_by_vectors(embedded: Embedded, passages: int, per_query: int) -> Scored:
    """Times of a bi-encoder that encodes so many passages, 0 where they are known, and queries."""
    tokens = float(embedded.lengths.mean()) * passages
    each = embedded.seconds_per_query / per_query
    begin = tokens * embedded.seconds_per_token
    return Scored(np.ones(1), 1, 0.0, each, begin, embedded.taken)


def time_index(make: Callable[[], Index], vectors: np.ndarray, rows: int) -> tuple[float, float]:
    """Seconds for building an index of `rows` vectors like these, and per search of depth 100.

    Above `KEPT` rows a smaller index is timed and the times are scaled linearly.
    """
    size = min(rows, KEPT)
    noise = np.random.default_rng(0).normal(scale=1e-3, size=(size, vectors.shape[1]))
    like = (np.resize(vectors, noise.shape) + noise).astype(np.float32)
    queries = like[:: max(1, size // 64)][:64]
    index = make()
    start = time.perf_counter()
    index.build([str(row) for row in range(size)], like)
    built = time.perf_counter() - start
    index.search(queries[:1], min(size, _DEPTH))
    start = time.perf_counter()
    index.search(queries, min(size, _DEPTH))
    searched = (time.perf_counter() - start) / len(queries)
    index.discard()
    return built * rows / size, searched * rows / size


def time_adapter(dimension: int, candidates: int) -> float:
    """Seconds of query adapter training per query and epoch."""
    random, queries = np.random.default_rng(0), 256
    vectors = random.normal(size=(queries, dimension)).astype(np.float32)
    lists = random.integers(0, queries, size=(queries, candidates + 1))
    targets = random.normal(size=lists.shape).astype(np.float32)
    start = time.perf_counter()
    modeling.train_adapter(
        vectors,
        vectors,
        list(lists),
        list(targets),
        modeling.all_pairs_margin_mse,
        normalize=True,
        epochs=2,
    )
    return (time.perf_counter() - start) / (2 * queries)
