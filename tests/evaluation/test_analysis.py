from __future__ import annotations

import random
from dataclasses import asdict

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from tercet.core.schema import InputError, Query
from tercet.core.text import excerpt
from tercet.evaluation.analysis import (
    PASSAGE_CHARACTERS,
    changes,
    compare_all,
    margins,
    overlap,
    slices,
    trec_order,
    wins,
)
from tercet.retrieval.metrics import evaluate
from tercet.retrieval.significance import holm, paired_bootstrap, randomisation_test

ORDERS = st.integers(0, 10**6).map(random.Random)
MEASURE = "ndcg@10"
TEXTS = {f"p{i}": f"passage {i} " + "of many words " * i for i in range(40)}


def collection(seed, queries=30):
    """Queries, qrels, runs and figures of three systems; some queries tie, some find nothing."""
    rng = random.Random(seed)
    asked, qrels = [], {}
    runs = {name: {} for name in ("base", "tuned", "bm25")}
    for i in range(queries):
        query = f"q{i:02}"
        asked.append(Query(query, " ".join(["word"] * rng.randrange(1, 20))))
        judged = rng.sample(list(TEXTS), rng.randrange(1, 14))
        qrels[query] = {passage: rng.randrange(3) for passage in judged}
        for run in runs.values():
            if rng.random() < 0.9:
                found = rng.sample(list(TEXTS), 12)
                run[query] = [(passage, rng.randrange(6) / 6) for passage in found]
        if i % 4 == 0 and query in runs["base"]:
            runs["tuned"][query] = runs["base"][query]
    figures = {name: evaluate(qrels, run, [MEASURE])[MEASURE] for name, run in runs.items()}
    return asked, qrels, runs, figures


def shuffled(rng, mapping):
    keys = list(mapping)
    rng.shuffle(keys)
    return {key: mapping[key] for key in keys}


def in_another_order(rng, asked, qrels, runs, figures):
    return (
        rng.sample(asked, len(asked)),
        {query: shuffled(rng, judged) for query, judged in shuffled(rng, qrels).items()},
        {
            name: {q: rng.sample(list(r), len(r)) for q, r in shuffled(rng, run).items()}
            for name, run in shuffled(rng, runs).items()
        },
        {name: shuffled(rng, values) for name, values in shuffled(rng, figures).items()},
    )


@settings(max_examples=25)
@given(seed=st.integers(0, 50), order=ORDERS)
def test_no_order_changes_anything(seed, order):
    given = collection(seed)
    asked, qrels, runs, figures = given
    again, qrels_again, runs_again, figures_again = in_another_order(order, *given)
    assert slices(asked, qrels, figures, "base", 50, 13) == slices(
        again, qrels_again, figures_again, "base", 50, 13
    )
    first = changes("tuned", "base", figures, runs, asked, qrels, TEXTS)
    texts = shuffled(order, TEXTS)
    second = changes("tuned", "base", figures_again, runs_again, again, qrels_again, texts)
    assert asdict(first) == asdict(second)
    assert list(first.differences) == list(second.differences)
    assert wins(figures["base"], figures["tuned"]) == wins(
        figures_again["base"], figures_again["tuned"]
    )


# ── slices ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", ["words in the query", "relevant passages"])
def test_slices_of_a_kind_part_the_queries_and_average_to_the_mean(kind):
    asked, qrels, _, figures = collection(3, queries=60)
    found = [s for s in slices(asked, qrels, figures, "base", 20, 13) if s.slice == kind]
    for system, values in figures.items():
        own = [s for s in found if s.system == system]
        assert sum(s.queries for s in own) == len(qrels)
        whole = sum(s.mean * s.queries for s in own) / len(qrels)
        assert whole == pytest.approx(np.mean(list(values.values())), abs=1e-12)
        assert len({s.value for s in own}) == len(own) >= 3


def test_a_slice_is_beside_the_baseline_with_the_paired_interval():
    asked, qrels, _, figures = collection(3)
    long = [query.id for query in asked if len(query.text.split()) >= 16]
    assert len(long) > 2
    found = [s for s in slices(asked, qrels, figures, "base", 200, 5) if s.value == "16+"]
    assert [s.system for s in found] == ["base", "bm25", "tuned"]
    assert (found[0].difference, found[0].low, found[0].high) == (None, None, None)
    columns = [[figures[name][query] for query in long] for name in ("base", "tuned")]
    interval = paired_bootstrap(*columns, resamples=200, seed=5)
    assert asdict(interval) == {k: asdict(found[2])[k] for k in ("difference", "low", "high")}
    assert found[2].mean - found[0].mean == pytest.approx(interval.difference, abs=1e-12)


@pytest.mark.parametrize(
    ("words", "value"),
    [(1, "1-3"), (3, "1-3"), (4, "4-7"), (7, "4-7"), (8, "8-15"), (15, "8-15"), (16, "16+")],
)
def test_lengths_fall_into_their_bands(words, value):
    asked = [Query("q", "\t".join(["wörter"] * words))]
    found = slices(asked, {"q": {"p": 1}}, {"base": {"q": 0.5}}, "base", 10, 1)
    assert [s.value for s in found] == [value, "1"]


@pytest.mark.parametrize(
    ("relevant", "value"),
    [(0, "0"), (1, "1"), (2, "2-4"), (4, "2-4"), (5, "5-9"), (9, "5-9"), (10, "10+")],
)
def test_only_relevant_passages_are_counted_and_no_query_is_lost(relevant, value):
    qrels = {"q": {f"p{i}": int(i < relevant) for i in range(12)}}
    found = slices([], qrels, {"base": {"q": 0.5}}, "base", 10, 1)
    assert [(s.value, s.queries) for s in found] == [("0", 1), (value, 1)]


# ── single queries ───────────────────────────────────────────────────────────────────────────


def test_changes_are_true_gains_and_losses_the_largest_first():
    asked, qrels, runs, figures = collection(8)
    found = changes("tuned", "base", figures, runs, asked, qrels, TEXTS, most=6)
    true = {q: figures["tuned"][q] - figures["base"][q] for q in qrels}
    assert found.differences == true
    assert list(found.differences.values()) == sorted(true.values())
    for few, sign in ((found.gained, 1), (found.lost, -1)):
        steps = [sign * (change.after - change.before) for change in few]
        assert all(step > 0 for step in steps)
        assert steps == sorted((sign * d for d in true.values()), reverse=True)[: len(few)]
    assert len(found.gained) == len(found.lost) == 6


def test_nothing_is_gained_or_lost_where_nothing_differs():
    asked, qrels, runs, figures = collection(8)
    figures["tuned"] = dict(figures["base"])
    found = changes("tuned", "base", figures, runs, asked, qrels, TEXTS)
    assert not found.gained and not found.lost
    assert list(found.differences) == sorted(qrels)  # ties by query id
    figures["tuned"] = {query: figure + 0.25 for query, figure in figures["base"].items()}
    figures["base"] = dict.fromkeys(qrels, 0.0)
    figures["tuned"] = dict.fromkeys(qrels, 0.25)
    found = changes("tuned", "base", figures, runs, asked, qrels, TEXTS, most=3)
    assert [change.query_id for change in found.gained] == sorted(qrels)[:3]
    assert not found.lost


def test_hits_are_what_was_found_and_what_should_have_been():
    asked, qrels, runs, figures = collection(8)
    found = changes("tuned", "base", figures, runs, asked, qrels, TEXTS, shown=4)
    texts = {query.id: query.text for query in asked}
    missed = 0
    for change in (*found.gained, *found.lost):
        judged = qrels[change.query_id]
        assert change.query == texts[change.query_id]
        for system, hits in (("base", change.found_before), ("tuned", change.found_after)):
            ranking = trec_order(runs[system].get(change.query_id, ()))
            assert [hit.id for hit in hits] == [passage for passage, _ in ranking[:4]]
            assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
            assert all(hit.grade == judged.get(hit.id, 0) for hit in hits)
            assert all(hit.text == excerpt(TEXTS[hit.id], PASSAGE_CHARACTERS) for hit in hits)
        ranking = [p for p, _ in trec_order(runs["tuned"].get(change.query_id, ()))]
        grades = sorted((grade for grade in judged.values() if grade > 0), reverse=True)
        assert [hit.grade for hit in change.relevant] == grades[:4]
        for hit in change.relevant:
            assert hit.rank == (ranking.index(hit.id) + 1 if hit.id in ranking else None)
            missed += hit.rank is None
    assert missed


def test_ranks_are_those_that_the_figures_saw():
    # Equal as float32, and listed in the order that trec_eval turns round.
    run = {"q": [("a", 0.1), ("b", 0.1 + 1e-12)]}
    assert [p for p, _ in trec_order([("b", 0.1), ("a", 0.1 + 1e-12)])] == ["b", "a"]
    qrels, empty = {"q": {"b": 1}}, {"q": []}
    figures = {n: evaluate(qrels, r, ["mrr@10"])["mrr@10"] for n, r in (("x", run), ("y", empty))}
    found = changes("x", "y", figures, {"x": run, "y": empty}, [], qrels, {"a": "A"})
    (change,) = found.gained
    assert change.after == 1 / change.relevant[0].rank == 1.0
    assert change.found_before == []
    assert [hit.text for hit in change.found_after] == ["(not in the corpus)", "A"]


def test_wins_losses_and_ties():
    before = {"a": 0.5, "b": 0.5, "c": 0.5, "d": 0.0}
    after = {"d": 0.0, "c": 0.25, "b": 0.75, "a": 1.0}
    assert wins(before, after) == (2, 1, 1)
    assert wins(after, before) == (1, 2, 1)


def test_figures_of_other_queries_or_systems_are_refused():
    asked, qrels, runs, figures = collection(1)
    with pytest.raises(InputError, match="baseline 'nobody' is none of base, bm25, tuned"):
        slices(asked, qrels, figures, "nobody", 10, 1)
    del figures["tuned"]["q07"]
    with pytest.raises(InputError, match="'q07'"):
        changes("tuned", "base", figures, runs, asked, qrels, TEXTS)
    with pytest.raises(InputError, match="'q07'"):
        wins(figures["base"], figures["tuned"])


# ── excerpts ─────────────────────────────────────────────────────────────────────────────────

WORDS = st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), max_size=60)


@given(text=WORDS.map(" ".join), longest=st.integers(2, 300))
def test_an_excerpt_is_short_and_cut_after_a_word(text, longest):
    line, cut = " ".join(text.split()), excerpt(text, longest)
    assert len(cut) <= longest
    if len(line) <= longest:
        assert cut == line
        return
    assert cut.endswith("…") and line.startswith(cut[:-1])
    assert len(cut) > longest // 2  # a script without spaces is shown too
    if " " in line[longest // 2 + 1 : longest]:
        assert line[len(cut) - 1] == " "


# ── margins ──────────────────────────────────────────────────────────────────────────────────

SCORES = st.floats(-50, 50, width=32)
LISTS = st.lists(st.lists(st.tuples(SCORES, SCORES), min_size=1, max_size=8), max_size=30)


@given(lists=LISTS, scale=st.floats(0.001, 10), bins=st.integers(2, 60))
@example(lists=[[(-0.00390625, 0.0), (0.0, 0.0), (-1.0, 0.0)]], scale=1.0, bins=2)
@example(lists=[[(0.0, -17.0), (0.0, 0.0)]], scale=1.0, bins=29)
def test_every_margin_is_counted_on_its_side_of_zero(lists, scale, bins):
    teacher = [[t for t, _ in pairs] for pairs in lists]
    student = [[s for _, s in pairs] for pairs in lists]
    if not any(len(scores) > 1 for scores in teacher):
        with pytest.raises(InputError, match="no candidates"):
            margins(teacher, student, scale, bins)
        return
    found = margins(teacher, student, scale, bins)
    assert len(found.edges) == bins + 1 and np.all(np.diff(found.edges) > 0)
    zero = found.edges.index(0.0)
    for counts, scores, factor in ((found.teacher, teacher, scale), (found.student, student, 1)):
        all_margins = [(x[0] - other) * factor for x in scores for other in x[1:]]
        assert len(counts) == bins and sum(counts) == len(all_margins)
        assert sum(counts[:zero]) == sum(margin < 0 for margin in all_margins)


def test_far_margins_are_in_the_outer_bins_and_change_no_edge():
    rng = np.random.default_rng(1)
    student = rng.normal(0, 1, (500, 26)).tolist()
    plain = margins(student, student, 1.0)
    assert plain.teacher == plain.student
    wild = [list(scores) for scores in student]
    wild[0][1], wild[1][1] = -1e6, 1e6
    found = margins(wild, student, 1.0)
    width = found.edges[1] - found.edges[0]
    assert found.edges[-1] - found.edges[0] < 12 and width < 0.3
    assert sum(found.teacher) == 500 * 25
    assert found.teacher[-1] >= plain.teacher[-1]


def test_margins_do_not_depend_on_the_order_of_queries_or_candidates():
    rng = np.random.default_rng(2)
    teacher, student = rng.normal(0, 1, (2, 40, 9))
    rows, columns = rng.permutation(40), np.r_[0, 1 + rng.permutation(8)]
    there = margins(teacher.tolist(), student.tolist(), 0.3)
    back = margins(teacher[rows][:, columns].tolist(), student[rows][:, columns].tolist(), 0.3)
    assert there == back


def test_lists_that_do_not_go_together_are_refused():
    with pytest.raises(InputError, match="differ in length"):
        margins([[1.0, 2.0]], [[1.0]], 1.0)
    with pytest.raises(InputError, match="not finite"):
        margins([[1.0, float("nan")]], [[1.0, 2.0]], 1.0)


# ── pairs of systems, and an index beside exact search ────────────────────────────────────────────

FIGURES = st.dictionaries(
    st.sampled_from("abcd"),
    st.lists(st.floats(0, 1), min_size=6, max_size=6),
    min_size=2,
)


def named(values: list[float]) -> dict[str, float]:
    return {f"q{i}": value for i, value in enumerate(values)}


@given(FIGURES, st.randoms(use_true_random=False))
def test_the_order_of_systems_and_queries_changes_nothing(
    figures: dict[str, list[float]], shuffle: random.Random
) -> None:
    systems = {name: named(values) for name, values in figures.items()}
    pairs = compare_all(systems, resamples=200, seed=1)
    names, queries = list(systems), [f"q{i}" for i in range(6)]
    shuffle.shuffle(names)
    shuffle.shuffle(queries)
    again = {name: {q: systems[name][q] for q in queries} for name in names}
    assert compare_all(again, resamples=200, seed=1) == pairs
    assert len(pairs) == len(names) * (len(names) - 1) // 2


@given(FIGURES)
def test_every_pair_is_told_from_its_better_system(figures: dict[str, list[float]]) -> None:
    systems = {name: named(values) for name, values in figures.items()}
    for pair in compare_all(systems, resamples=200, seed=1):
        first, second = figures[pair.first], figures[pair.second]
        assert pair.difference == pytest.approx(np.mean(first) - np.mean(second), abs=1e-12)
        assert pair.difference >= -1e-12
        assert pair.low <= pair.difference <= pair.high
        assert pair.p <= pair.p_holm <= 1
        assert pair.wins == sum(a > b for a, b in zip(first, second, strict=True))
        assert pair.wins + pair.losses + pair.ties == 6


@given(FIGURES)
def test_a_pairs_p_is_the_randomisation_tests_and_holms_of_all_pairs(
    figures: dict[str, list[float]],
) -> None:
    pairs = compare_all({n: named(v) for n, v in figures.items()}, resamples=200, seed=1)
    columns = [np.subtract(figures[pair.first], figures[pair.second]) for pair in pairs]
    ps = randomisation_test(np.array(columns).T, permutations=200, seed=1)
    assert [pair.p for pair in pairs] == ps.tolist()
    assert [pair.p_holm for pair in pairs] == holm(ps).tolist()


def test_one_system_has_no_pair() -> None:
    assert compare_all({"a": {"q": 1.0}}, resamples=100, seed=1) == []


def test_overlap_is_recall_of_the_exact_ten() -> None:
    exact = {"1": [(p, 1.0) for p in "abcd"], "2": [("x", 1.0)], "3": []}
    other = {"1": [(p, 1.0) for p in "bazz"], "2": [("x", 1.0)], "3": [("y", 1.0)]}
    assert overlap(exact, exact, 10) == 1
    assert overlap(exact, other, 2) == 1
    assert overlap(exact, other, 4) == pytest.approx((2 / 4 + 1) / 2)
    assert overlap({"3": []}, other, 4) == 1
