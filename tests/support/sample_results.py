"""An experiment's results, plausible and made up: what the page is looked at and tested with."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from tercet.evaluation.results import (
    Build,
    Cell,
    Change,
    Changes,
    Figure,
    Forgetting,
    Hit,
    IndexFacts,
    Margins,
    Pair,
    Results,
    Slice,
    SystemFacts,
)
from tercet.retrieval.latency import Phase, Timing

QUERIES = 300
PRIMARY = "ndcg@10"
MEANS = {
    "bm25": 0.652,
    "base": 0.645,
    "adapted": 0.688,
    "bge-small": 0.713,
    "hybrid": 0.702,
    "reranked": 0.697,
}
DENSE = ("base", "adapted", "bge-small")
INDEXES = {
    "exact": "every query against every passage: misses nothing",
    "faiss HNSW32": "a graph over full vectors",
    "faiss IVF256,PQ48": "inverted lists of product-quantized codes",
    "faiss OPQ48,IVF256,PQ48": "the same, rotated first so that less is lost",
    "faiss IVF256,PQ48x4fs,RFlat": "4-bit codes scanned fast, the best of them looked at again",
    "weaviate hnsw": "a graph over full vectors",
    "weaviate hnsw+pq": "a graph over product-quantized codes: what Weaviate has for IVF-PQ's need",
    "weaviate hnsw+rq": "a graph over rotated 8-bit codes",
    "weaviate hnsw+sq": "a graph over 8-bit codes",
    "weaviate hnsw+bq": "a graph over 1-bit codes",
    "weaviate flat": "all vectors, read from disk",
    "weaviate hfresh": "lists on disk, their centres in memory: Weaviate's nearest to an IVF",
}
#: What each index finds of exact search's ten best; MB; build s; search ms.
COSTS = {
    "exact": (1.0, 8.0, 0.02, 0.9),
    "faiss HNSW32": (0.9983, 9.4, 1.9, 0.31),
    "faiss IVF256,PQ48": (0.71, 0.9, 4.1, 0.12),
    "faiss OPQ48,IVF256,PQ48": (0.83, 1.5, 7.7, 0.16),
    "faiss IVF256,PQ48x4fs,RFlat": (0.968, 8.6, 4.4, 0.09),
    "weaviate hnsw": (0.9991, 14.2, 5.2, 1.9),
    "weaviate hnsw+pq": (0.957, 6.1, 21.3, 2.3),
    "weaviate hnsw+rq": (0.9989, 8.8, 5.6, 1.8),
    "weaviate hnsw+sq": (0.9962, 8.9, 6.0, 2.0),
    "weaviate hnsw+bq": (0.883, 7.4, 5.8, 2.2),
    "weaviate flat": (1.0, 0.4, 2.1, 6.4),
    "weaviate hfresh": (0.991, 1.1, 9.9, 3.2),
}
MEASURES = [
    f"{name}@{k}"
    for name in ("ndcg", "map", "mrr", "recall", "precision", "hit")
    for k in (1, 5, 10, 100)
]
TEXTS = (
    "Regulatory T cells restrain the response of effector cells to self antigens, and their loss "
    "in the periphery is followed by inflammation of several organs within weeks.",
    "We sequenced the transcriptomes of single cells from the developing cortex and found three "
    "transient populations that had not been described before.",
    "In a cohort of adults followed for a decade, moderate drinking was not associated with a "
    "lower risk of stroke once abstention for reasons of health was accounted for.",
    "Vitamin D supplements did not change the rate of falls among people over seventy in this "
    "randomised trial, whatever the dose.",
)
QUESTIONS = (
    "Regulatory T cells suppress autoimmunity in peripheral tissue.",
    "moderate alcohol consumption stroke risk",
    "Vitamin D supplementation prevents falls among the elderly.",
    "single-cell sequencing cortex transient populations",
    "ALDH1 expression is associated with better breast cancer outcomes.",
)


def sample() -> Results:
    """Six systems, twelve indexes, three hundred queries; the same every time."""
    random = np.random.default_rng(7)
    hard = random.normal(0, 1.5, QUERIES)
    values = {}
    for name, mean in MEANS.items():
        noise = random.normal(0, 0.35 if name in DENSE else 0.8, QUERIES)
        values[name] = _gains(hard + noise, mean)
    return Results(
        title="scifact-adapted: 6 systems, 12 indexes",
        command="python eval.py recipes/experiment.yaml --corpus.path corpora/scifact",
        finished="2026-11-24 03:12:45 +0000",
        corpus="corpora/scifact",
        passages=5183,
        queries=QUERIES,
        queries_are="the 300 judged queries of test.tsv",
        primary=PRIMARY,
        measures=MEASURES,
        baseline="base",
        systems=_systems(),
        indexes=[IndexFacts(name, words) for name, words in INDEXES.items()],
        cells=_cells(values, random),
        pairs=_pairs(values, random),
        slices=_slices(values, random),
        changes=[_changes(name, values) for name in MEANS if name != "base"],
        notes=[
            "intervals are 95%, by bootstrap over queries; p is of a paired randomisation test "
            "over the exact index, corrected by Holm for all pairs",
            "timed on 3,000 queries, 300 of the test and 2,700 synthetic ones, for this alone",
            "Weaviate has no IVF-PQ: its hnsw+pq answers the same need for little memory",
        ],
        forgetting=Forgetting("corpora/nfcorpus", 323, 0.3162, 0.3094, -0.0068, -0.0151, 0.0013),
        curve=_curve(random),
        margins=_margins(random),
        machine={"processor": "AMD EPYC 7B13", "cores": 2, "gpu": None, "gigaflops_before": 97.4},
        versions={"python": "3.11.9", "tercet": "0.1.0", "torch": "2.13.0", "faiss-cpu": "1.15.1"},
        settings={
            "name": "scifact-adapted",
            "seed": 13,
            "training.learning_rate": 2e-5,
            "training.bf16": None,
            "evaluation.cutoffs": [1, 5, 10, 100],
            "evaluation.systems.0.k1": 0.9,
            "evaluation.systems.0.language": "english",
            "tracking.report_to": [],
        },
    )


def _gains(difficulty: np.ndarray, mean: float) -> np.ndarray:
    """nDCG of one relevant passage whose rank grows with the difficulty, of about this mean."""
    low, high = -8.0, 8.0
    for _ in range(40):
        shift = (low + high) / 2
        rank = np.maximum(1, np.ceil(np.exp(difficulty - shift)))
        gains = np.where(rank <= 10, 1 / np.log2(1 + rank), 0.0)
        low, high = (shift, high) if gains.mean() < mean else (low, shift)
    return gains


def _systems() -> list[SystemFacts]:
    model = "sentence-transformers/all-MiniLM-L6-v2"
    return [
        SystemFacts("bm25", "bm25", "BM25, k1 0.9, b 0.4, english stemmer"),
        SystemFacts("base", "base", f"{model}, as it came", 384),
        SystemFacts("adapted", "adapted", f"{model}, adapted to this corpus", 384),
        SystemFacts("bge-small", "vectors", "vectors of bge.parquet, cosine", 384, 0.02, 20.0),
        SystemFacts("hybrid", "hybrid", "reciprocal rank fusion of bm25 and adapted"),
        SystemFacts("reranked", "rerank", "first 30 of adapted, reordered by ms-marco-MiniLM-L12"),
    ]


def _figure(mean: float, width: float = 0.043) -> Figure:
    return Figure(mean, max(0.0, mean - width), min(1.0, mean + 0.97 * width))


def _figures(mean: float) -> dict[str, Figure]:
    scale = {"ndcg": 1.0, "map": 0.94, "mrr": 0.955, "recall": 1.2, "precision": 0.13, "hit": 1.25}
    depth = {1: 0.8, 5: 0.96, 10: 1.0, 100: 1.07}
    found = {}
    for measure in MEASURES:
        name, _, k = measure.partition("@")
        value = scale[name] * depth[int(k)] * mean
        if name == "precision":
            value *= {1: 5.1, 5: 1.35, 10: 1.0, 100: 0.11}[int(k)]
        found[measure] = _figure(min(0.99, value))
    return found


def _phase(p50: float, batch: int = 1) -> Phase:
    return Phase(p50, p50 * 1.31, p50 * 1.92, 1000 * batch / (1.06 * p50))


def _timing(phases: Mapping[str, float], batch: int) -> Timing:
    whole = sum(phases.values())
    known = {name: _phase(ms, batch) for name, ms in phases.items()}
    return Timing(3000 if whole < 500 else 412, batch, known, _phase(whole, batch))


def _timings(system: str, search: float) -> tuple[Timing, Timing]:
    encode = {"bm25": 0.0, "bge-small": 0.004}.get(system, 7.3)
    single = {"encode": encode, "search": search} if encode else {"search": search}
    if system == "reranked":
        single["rerank"] = 611.0
    return _timing(single, 1), _timing({k: v * 64 * 0.37 for k, v in single.items()}, 64)


def _cells(values: Mapping[str, np.ndarray], random: np.random.Generator) -> list[Cell]:
    cells = []
    for index, (overlap, megabytes, seconds, search) in COSTS.items():
        for system in MEANS:
            if index != "exact" and system not in (*DENSE, "hybrid"):
                continue
            if index == "weaviate hfresh" and system == "base":
                why = "hfresh compares by cosine, and base's vectors are compared by dot product"
                cells.append(Cell(system, index, refused=why))
                continue
            loss = (1 - overlap) * (0.6 if system != "hybrid" else 0.2)
            mean = float(values[system].mean()) * (1 - loss)
            noise = float(random.uniform(0.9, 1.1))
            build = None
            if system in DENSE:
                note = "vectors and graph, counted" if index.startswith("weaviate hnsw") else ""
                size = int(megabytes * 1e6 * noise)
                build = Build(seconds * noise, size, int(size * 1.4) if "weav" in index else None)
                build = Build(build.seconds, build.memory, build.disk, note)
            search_ms = {"bm25": 0.42, "hybrid": search + 0.6}.get(system, search) * noise
            timed = index == "exact" or system in DENSE
            single, batched = _timings(system, search_ms) if timed else (None, None)
            cells.append(Cell(system, index, _figures(mean), overlap, build, single, batched))
    return cells


def _interval(differences: np.ndarray, random: np.random.Generator) -> tuple[float, float]:
    drawn = random.choice(differences, (1000, len(differences))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def _pairs(values: Mapping[str, np.ndarray], random: np.random.Generator) -> list[Pair]:
    found = []
    for a, b in combinations(sorted(values), 2):
        first, second = (a, b) if values[a].mean() >= values[b].mean() else (b, a)
        d = values[first] - values[second]
        low, high = _interval(d, random)
        flips = random.choice([-1, 1], (2000, len(d)))
        p = float((np.abs((flips * d).mean(axis=1)) >= d.mean()).mean() + 1 / 2001)
        detectable = float(2.8 * d.std(ddof=1) / np.sqrt(len(d)))
        wins, losses = int((d > 0).sum()), int((d < 0).sum())
        counts = (wins, losses, len(d) - wins - losses)
        pair = (first, second, float(d.mean()), low, high, min(p, 1.0))
        found.append((*pair, min(1.0, p * 15), detectable, *counts))
    return [Pair(*row) for row in sorted(found, key=lambda row: -row[2])]


def _slices(values: Mapping[str, np.ndarray], random: np.random.Generator) -> list[Slice]:
    found = []
    for name, bands in (
        (
            "words in the query",
            {"1-7": slice(0, 68), "8-15": slice(68, 211), "16+": slice(211, 300)},
        ),
        ("relevant passages", {"1": slice(0, 261), "2 or more": slice(261, 300)}),
    ):
        for value, part in bands.items():
            for system in ("base", *sorted(set(values) - {"base"})):
                own = values[system][part]
                d = own - values["base"][part]
                low, high = _interval(d, random)
                beside = (None,) * 3 if system == "base" else (float(d.mean()), low, high)
                found.append(Slice(name, value, len(own), system, float(own.mean()), *beside))
    return found


def _changes(system: str, values: Mapping[str, np.ndarray]) -> Changes:
    differences = {f"q{i:03}": float(d) for i, d in enumerate(values[system] - values["base"])}
    ordered = dict(sorted(differences.items(), key=lambda item: item[1]))
    ids = list(ordered)

    def change(id: str) -> Change:
        i = int(id[1:])
        hits = [Hit(r + 1, f"d{i}{r}", int(r == i % 3), TEXTS[(i + r) % 4]) for r in range(3)]
        before = [Hit(r + 1, f"d{i}{r + 4}", 0, TEXTS[(i + r + 1) % 4]) for r in range(3)]
        question, was = QUESTIONS[i % 5], float(values["base"][i])
        relevant = [hits[i % 3], Hit(None, f"d{i}9", 1, TEXTS[i % 4])]
        return Change(id, question, was, float(values[system][i]), before, hits, relevant)

    return Changes(
        system, [change(id) for id in ids[-5:][::-1]], [change(id) for id in ids[:5]], ordered
    )


def _curve(random: np.random.Generator) -> list[dict[str, float]]:
    rows: list[dict[str, float]] = []
    for epoch in range(6):
        gain = 0.045 * (1 - np.exp(-0.9 * epoch)) + float(random.normal(0, 0.002)) * bool(epoch)
        rows.append(
            {
                "epoch": epoch,
                "step": 1250 * epoch,
                "ndcg@10": 0.641 + gain,
                "map@10": 0.597 + 0.96 * gain,
                "mrr@10": 0.611 + 0.97 * gain,
                "recall@100": 0.921 + 0.4 * gain,
            }
        )
    return rows


def _margins(random: np.random.Generator) -> Margins:
    edges = np.linspace(-0.4, 0.8, 41)
    teacher, _ = np.histogram(random.normal(0.21, 0.17, 50_000), edges)
    student, _ = np.histogram(random.normal(0.15, 0.12, 50_000), edges)
    return Margins(edges.tolist(), teacher.tolist(), student.tolist(), 0.03172)
