from __future__ import annotations

import random
import time

import ir_measures
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tercet.core.metric_names import parse_metric
from tercet.core.schema import InputError
from tercet.retrieval.metrics import IndexedRun, evaluate, mean

KS = (1, 5, 10, 100)
REFERENCES = {
    "map": ir_measures.AP,
    "ndcg": ir_measures.nDCG,
    "recall": ir_measures.R,
    "precision": ir_measures.P,
    "hit": ir_measures.Success,
}
MEASURES = [f"{name}@{k}" for name in (*REFERENCES, "mrr") for k in KS]


def for_pytrec_eval(qrels, run):
    """With no grade of a query at zero or above, it writes out of bounds: give it zeros there."""
    qrels = {
        query: judged if max(judged.values()) >= 0 else dict.fromkeys(judged, 0)
        for query, judged in qrels.items()
    }
    return qrels, {query: dict(ranking) for query, ranking in run.items()}


def trec_eval(qrels, run):
    """The same figures from ir-measures over trec_eval, which cuts no reciprocal rank: do it here.

    (The provider of ir-measures that does cut it breaks ties the other way round.)
    """
    measures = {ir_measures.RR: "rr"} | {
        measure @ k: f"{name}@{k}" for name, measure in REFERENCES.items() for k in KS
    }
    figures = {}
    for metric in ir_measures.pytrec_eval.iter_calc(list(measures), *for_pytrec_eval(qrels, run)):
        figures.setdefault(measures[metric.measure], {})[metric.query_id] = metric.value
    ranks = figures.pop("rr")
    for k in KS:
        figures[f"mrr@{k}"] = {
            query: rank if rank and round(1 / rank) <= k else 0.0 for query, rank in ranks.items()
        }
    return figures


def assert_equal(figures, expected):
    assert figures.keys() == expected.keys()
    for measure, values in figures.items():
        assert values == pytest.approx(expected[measure], abs=1e-9), measure


def random_collection(seed, queries=3000):
    rng = random.Random(seed)
    passages = [f"p{i}" for i in range(200)]
    qrels, run = {}, {}
    for i in range(queries):
        judged = rng.sample(passages, rng.randrange(1, 12))
        qrels[f"q{i}"] = {passage: rng.choice([-1, 0, 0, 1, 1, 2, 3]) for passage in judged}
        found = rng.sample(passages, rng.randrange(0, 150))
        levels = rng.choice([1, 5, 50, 10**9])  # from all tied to hardly any
        if rng.random() < 0.9:
            run[f"q{i}"] = [(passage, rng.randrange(levels) / levels - 0.5) for passage in found]
    return qrels, run


@pytest.mark.parametrize("seed", [1, 2])
def test_figures_are_those_of_trec_eval(seed):
    qrels, run = random_collection(seed)
    assert_equal(evaluate(qrels, run, MEASURES), trec_eval(qrels, run))


def test_means_are_those_of_trec_eval_over_every_judged_query():
    qrels, run = random_collection(3, queries=300)
    assert len(run) < len(qrels)
    ndcg = ir_measures.nDCG @ 10
    expected = ir_measures.pytrec_eval.calc_aggregate([ndcg], *for_pytrec_eval(qrels, run))[ndcg]
    assert mean(evaluate(qrels, run, ["ndcg@10"])) == {"ndcg@10": pytest.approx(expected, abs=1e-9)}


ids = st.text("ab\u00e9\U0001f600z1-", min_size=1, max_size=3)
scores = st.floats(-8, 8, width=32) | st.sampled_from([0.0, -0.0, 1.0])
grades = st.integers(-2, 4)
collections = st.dictionaries(
    ids,
    st.tuples(
        st.dictionaries(ids, grades, min_size=1, max_size=8)
        | st.dictionaries(ids, st.just(0), min_size=1, max_size=8),
        st.none() | st.dictionaries(ids, scores, max_size=12),  # None: the run misses the query
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.fault("ties and another order")
@given(collections, st.randoms())
def test_any_collection_agrees_with_trec_eval_in_any_order(collection, rng):
    qrels = {query: judged for query, (judged, _) in collection.items()}
    run = {
        query: list(found.items()) for query, (_, found) in collection.items() if found is not None
    }
    figures = evaluate(qrels, run, MEASURES)
    assert_equal(figures, trec_eval(qrels, run))
    assert all(0 <= value <= 1 for values in figures.values() for value in values.values())

    def shuffled(items):
        items = list(items)
        rng.shuffle(items)
        return items

    other = evaluate(
        {query: dict(shuffled(judged.items())) for query, judged in shuffled(qrels.items())},
        {query: shuffled(ranking) for query, ranking in shuffled(run.items())},
        MEASURES,
    )
    assert other == figures
    assert mean(other) == mean(figures)


def as_arrays(qrels, run, order):
    """The same collection in numbers, as a caller who has arrays would give it."""
    passages = sorted(
        {id for judged in qrels.values() for id in judged}.union(
            *({id for id, _ in ranking} for ranking in run.values())
        )
    )
    code = {id: 3 * i for i, id in enumerate(passages)}
    depth = max((len(ranking) for ranking in run.values()), default=0) + 1
    codes = np.full((len(qrels), depth), -1)
    scores = np.full((len(qrels), depth), np.nan)
    for row, query in enumerate(qrels):
        places = order.sample(range(depth), len(run.get(query, ())))
        for place, (id, score) in zip(places, run.get(query, ()), strict=True):
            codes[row, place], scores[row, place] = code[id], score
    pairs = [
        (row, code[id], grade)
        for row, judged in enumerate(qrels.values())
        for id, grade in judged.items()
    ]
    order.shuffle(pairs)
    return codes, scores, tuple(np.array(pairs, np.int64).reshape(-1, 3).T)


@given(collections, st.randoms())
def test_arrays_give_the_same_figures_as_ids_and_each_query_its_own(collection, rng):
    qrels = {query: judged for query, (judged, _) in collection.items()}
    run = {query: list(found.items()) for query, (_, found) in collection.items() if found}
    figures = evaluate(qrels, run, MEASURES)
    measured = IndexedRun(*as_arrays(qrels, run, rng)).evaluate(MEASURES)
    for measure, values in measured.items():
        assert values.dtype == np.float64
        assert dict(zip(qrels, values.tolist(), strict=True)) == figures[measure]
    for query, judged in qrels.items():
        alone = evaluate({query: judged}, run, MEASURES)
        assert all(alone[measure][query] == figures[measure][query] for measure in MEASURES)


def test_arrays_in_which_nothing_was_found_are_all_zero():
    judged = np.array([0, 1]), np.array([5, 5]), np.array([1, 0])
    for depth in (0, 3):
        codes = np.full((2, depth), -1)
        figures = IndexedRun(codes, np.zeros((2, depth)), judged).evaluate(MEASURES)
        assert all(values.tolist() == [0, 0] for values in figures.values())


FINE = {
    "codes": [[7, 4, -1]],
    "scores": [[0.5, 0.25, 0.0]],
    "rows": [0, 0],
    "judged": [7, 9],
    "grades": [1, 2],
}


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"codes": [7, 4, -1]}, "codes of shape"),
        ({"scores": [[0.5, 0.25]]}, "codes of shape"),
        ({"codes": [[7, 4, 1 << 31]]}, "a code is not from -1 to 2147483647"),
        ({"codes": [[7, 4, -2]]}, "a code is not from -1"),
        ({"codes": [[7.0, 4.0, -1.0]]}, "a code is not a whole number"),
        ({"codes": [[7, 4, 7]]}, "row 0 ranks passage 7 twice"),
        ({"scores": [[0.5, float("nan"), 0.0]]}, "row 0 scores passage 4 NaN"),
        ({"rows": [0, 1]}, "a judged pair's row is not from 0 to 0"),
        ({"judged": [7, -1]}, "a judged pair's code is not from 0"),
        ({"judged": [7, 7]}, "row 0 judges passage 7 twice"),
        ({"grades": [1, 0.5]}, "a grade is not a whole number"),
        ({"grades": [1]}, "three equal lists"),
    ],
)
def test_faulty_arrays_are_refused(fault, message):
    def make(codes, scores, rows, judged, grades):
        pairs = np.array(rows), np.array(judged), np.array(grades)
        return IndexedRun(np.array(codes), np.array(scores), pairs)

    assert make(**FINE).evaluate(["hit@1", "recall@5"])["recall@5"].tolist() == [0.5]
    with pytest.raises(InputError, match=message):
        make(**FINE | fault)


def test_scores_that_float32_cannot_tell_apart_are_equal():
    qrels = {"q": {"a": 1}}
    run = {"q": [("a", 1.0 + 1e-12), ("b", 1.0)]}
    assert evaluate(qrels, run, ["mrr@10"]) == {"mrr@10": {"q": 0.5}}
    assert trec_eval(qrels, run)["mrr@10"] == {"q": 0.5}


def test_infinite_scores_have_their_places():
    run = {"q": [("a", float("inf")), ("b", 3.0), ("c", 1e300), ("d", float("-inf"))]}
    figures = evaluate({"q": {"b": 1}}, run, ["mrr@10"])
    assert figures == {"mrr@10": {"q": 1 / 3}}  # 1e300 is infinite in float32


def test_queries_without_relevant_passages_count_as_zero():
    qrels = {"none": {"a": 0}, "negative": {"a": -1}, "empty": {}, "found": {"a": 1}}
    run = {query: [("a", 1.0)] for query in qrels}
    figures = evaluate(qrels, run, ["ndcg@10", "map@10", "recall@10"])
    for values in figures.values():
        assert values == {"none": 0, "negative": 0, "empty": 0, "found": 1}


def test_queries_without_judgements_are_passed_over():
    run = {"q": [("a", 1.0)], "other": [("a", 1.0)]}
    assert evaluate({"q": {"a": 1}}, run, ["hit@1"]) == {"hit@1": {"q": 1.0}}


def test_an_empty_run_is_all_zero():
    assert mean(evaluate({"q": {"a": 1}}, {}, MEASURES)) == dict.fromkeys(MEASURES, 0)


@pytest.mark.parametrize(
    ("ranking", "message"),
    [
        ([("a", 1.0), ("b", 2.0), ("a", 0.5)], "query 'q' ranks passage 'a' twice"),
        ([("a", 1.0), ("b", float("nan"))], "query 'q' scores passage 'b' NaN"),
    ],
)
def test_faulty_rankings_are_refused(ranking, message):
    with pytest.raises(InputError, match=message):
        evaluate({"p": {}, "q": {"a": 1}}, {"q": ranking}, ["map@10"])


def test_faulty_judgements_are_refused():
    with pytest.raises(InputError, match="no query"):
        evaluate({}, {}, ["map@10"])
    with pytest.raises(InputError, match="whole number"):
        evaluate({"q": {"a": 0.5}}, {}, ["map@10"])


@pytest.mark.parametrize(
    ("measure", "nearest"),
    [
        ("ndgc@10", "'ndcg@10'"),
        ("nDCG@5", "'ndcg@5'"),
        ("ndcg_cut_10", "'ndcg@10'"),
        ("P@3", "'precision@3'"),
        ("MAP", "'map@10'"),
        ("rr@0", "'mrr@10'"),
        ("hits@1", "'hit@1'"),
        ("", "'ndcg@10'"),
    ],
)
def test_an_unknown_measure_is_refused_with_the_nearest(measure, nearest):
    with pytest.raises(InputError, match=f"did you mean {nearest}"):
        evaluate({"q": {"a": 1}}, {}, [measure])
    assert parse_metric("ndcg@10") == ("ndcg", 10)


def test_a_mean_of_nothing_is_refused():
    with pytest.raises(InputError, match="no values"):
        mean({"map@10": {}})


def test_a_large_cut_off_costs_no_memory():
    assert evaluate({"q": {"a": 1}}, {"q": [("a", 1.0)]}, ["recall@1000000000000"])


def test_three_thousand_queries_take_a_moment():
    rng = random.Random(0)
    passages = [f"p{i}" for i in range(10_000)]
    qrels = {f"q{i}": dict.fromkeys(rng.sample(passages, 5), 1) for i in range(3000)}
    run = {query: [(id, rng.random()) for id in rng.sample(passages, 100)] for query in qrels}
    start = time.process_time()
    evaluate(qrels, run, ["map@100", "mrr@10", "ndcg@10", "recall@100", "precision@10", "hit@10"])
    assert time.process_time() - start < 2  # 0.05 s when nothing else runs


def test_three_thousand_indexed_queries_take_milliseconds():
    rng = np.random.default_rng(0)
    codes = np.array([rng.permutation(300)[:100] for _ in range(3000)])
    relevant = np.array([rng.permutation(300)[:5] for _ in range(3000)])
    judged = np.repeat(np.arange(3000), 5), relevant.ravel(), np.ones(15_000, int)
    indexed = IndexedRun(codes, rng.random(codes.shape), judged)
    measures = [f"{name}@{k}" for name in ("map", "mrr") for k in (1, 5, 10)]
    seconds = []
    for _ in range(5):
        start = time.process_time()
        indexed.evaluate(measures)
        seconds.append(time.process_time() - start)
    assert min(seconds) < 0.05  # 0.002 s when nothing else runs
