from __future__ import annotations

import hashlib
import json
import random
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tercet.core.console import console
from tercet.core.schema import InputError, Query
from tercet.data.triplets import DOUBTFUL
from tercet.evaluation.analysis import margins
from tercet.evaluation.audit import (
    FEWEST,
    Audit,
    HeadRoom,
    Outlook,
    audit,
    audit_lists,
    measure_head_room,
)
from tercet.modeling import CrossEncoderTeacher
from tercet.reports.audit_table import print_audit
from tercet.retrieval.metrics import evaluate, mean

ORDERS = st.integers(0, 10**6).map(random.Random)
RERANKER = Path(__file__).parents[2] / "models" / "ms-marco-MiniLM-L12-v2-int8"


def noise(*words: str) -> float:
    """From -1 to 1, the same for the same words."""
    digest = hashlib.sha256("\0".join(words).encode()).digest()
    return int.from_bytes(digest[:4]) / 2**31 - 1


class Wobbling:
    """A teacher that knows which passages are relevant, by so much, beside its noise.

    As a quantised one's, its scores depend a little on what else it is given to read.
    """

    name = "wobbling"

    def __init__(self, skill: float = 2.0) -> None:
        self.skill = skill
        self.calls: list[list[tuple[str, str]]] = []

    def lengths(self, pairs):
        return np.array([len(query) + len(text) for query, text in pairs])

    def score(self, pairs):
        self.calls.append(list(pairs))
        wobble = noise(*(part for pair in pairs for part in pair))
        # A passage is relevant where its text holds the query's name.
        return np.array(
            [self.skill * (q in text.split()) + noise(q, text) + wobble / 9 for q, text in pairs],
            np.float32,
        )


def collection(seed=1, count=40, depth=15):
    """Queries, qrels, a mediocre run and texts; one judged query has no text and no ranking."""
    rng = random.Random(seed)
    queries = [Query(f"q{i:02}", f"name{i:02}") for i in range(count)]
    texts = {f"p{j:03}": f"passage {j}" for j in range(4 * count)}
    qrels = {}
    for i, query in enumerate(queries):
        qrels[query.id] = {f"p{j:03}": 1 + j % 2 for j in range(4 * i, 4 * i + 3)}
        for passage in qrels[query.id]:
            texts[passage] += f" {query.text}"
    run = {}
    for query in queries:
        found = rng.sample(list(texts), depth)
        found[5] = next(iter(qrels[query.id]))
        run[query.id] = [(p, -rank / 7) for rank, p in enumerate(dict.fromkeys(found))]
    qrels["without text"] = {"p000": 1}
    return queries, qrels, run, texts


def head_room(teacher, given, **settings):
    queries, qrels, run, texts = given
    return measure_head_room(teacher, queries, qrels, run, texts, "all", resamples=200, **settings)


def shuffled(rng, mapping):
    keys = list(mapping)
    rng.shuffle(keys)
    return {key: mapping[key] for key in keys}


# ── head-room ────────────────────────────────────────────────────────────────────────────────


def test_head_room_is_of_the_first_passages_in_the_teachers_order():
    given, teacher = collection(), Wobbling()
    queries, qrels, run, texts = given
    found = head_room(teacher, given, depth=8, measure="ndcg@5")
    read = [pair for call in teacher.calls for pair in call]
    answers = np.concatenate([Wobbling().score(call) for call in teacher.calls])
    scores = dict(zip(read, answers, strict=True))
    reranked = {}
    for query in queries:
        first = [p for p, _ in run[query.id][:8]]
        assert all((query.text, texts[p]) in scores for p in first)
        best = sorted(first, key=lambda p: -scores[query.text, texts[p]])
        reranked[query.id] = [(p, -float(rank)) for rank, p in enumerate(best)]
    assert len(read) == len(set(read)) == 8 * len(queries)
    figures = [evaluate(qrels, r, ["ndcg@5"]) for r in (run, reranked)]
    assert [found.model, found.teacher] == [mean(f)["ndcg@5"] for f in figures]
    assert found.difference == pytest.approx(found.teacher - found.model, abs=1e-12)
    assert found.low <= found.difference <= found.high and found.low > 0
    assert (found.queries, found.judged, found.depth) == (41, 41, 8)
    assert found.wins + found.losses + found.ties == 41 and found.ties >= 1


def test_a_teacher_of_the_models_own_order_has_no_head_room():
    given = collection()
    _, _, run, texts = given
    of = {query.text: dict(run[query.id]) for query in given[0]}
    ids = {text: passage for passage, text in texts.items()}

    class Echo(Wobbling):
        def score(self, pairs):
            return np.array([of[query][ids[text]] for query, text in pairs], np.float32)

    found = head_room(Echo(), given)
    assert (found.model, found.difference, found.ties) == (found.teacher, 0.0, found.queries)
    assert audit("echo", found, None).outlook is Outlook.BAD


@settings(max_examples=20)
@given(ORDERS)
def test_head_room_does_not_depend_on_any_order(rng):
    queries, qrels, run, texts = collection()
    again = (
        rng.sample(queries, len(queries)),
        {query: shuffled(rng, judged) for query, judged in shuffled(rng, qrels).items()},
        {query: rng.sample(ranking, len(ranking)) for query, ranking in shuffled(rng, run).items()},
        shuffled(rng, texts),
    )
    first, second = Wobbling(0.3), Wobbling(0.3)
    found = [
        head_room(teacher, given, depth=6, sample=25)
        for teacher, given in ((first, (queries, qrels, run, texts)), (second, again))
    ]
    assert found[0] == found[1]
    assert first.calls == second.calls


def test_many_judged_queries_are_sampled_and_counted():
    given = collection()
    found = head_room(Wobbling(), given, sample=12)
    assert (found.queries, found.judged) == (12, 41)
    assert found == head_room(Wobbling(), given, sample=12)
    others = [head_room(Wobbling(), given, sample=12, seed=seed).model for seed in range(5)]
    assert len(set(others)) > 1


def test_a_run_that_found_nothing_has_no_head_room_and_is_no_fault():
    queries, qrels, _, texts = collection()
    teacher = Wobbling()
    found = head_room(teacher, (queries, qrels, {}, texts))
    assert (found.model, found.teacher, found.depth) == (0.0, 0.0, 0)
    assert not teacher.calls
    with pytest.raises(InputError, match="nothing to evaluate"):
        head_room(teacher, (queries, {}, {}, texts))


@pytest.mark.slow
@pytest.mark.models
@pytest.mark.skipif(not RERANKER.exists(), reason="make models")
def test_a_quantised_teachers_head_room_does_not_depend_on_the_order(tiny_texts):
    teacher = CrossEncoderTeacher.from_pretrained(RERANKER)
    texts = {f"p{i:02}": text for i, text in enumerate(tiny_texts[:30])}
    queries = [Query(f"q{i}", text) for i, text in enumerate(tiny_texts[60:70])]
    qrels = {f"q{i}": {f"p{3 * i:02}": 1} for i in range(10)}
    run = {
        q.id: [(p, -float(n)) for n, p in enumerate(sorted(texts, reverse=True))] for q in queries
    }
    found = [
        measure_head_room(teacher, asked, qrels, run, texts, "all", depth=30, resamples=100)
        for asked in (queries, queries[::-1])
    ]
    assert found[0] == found[1]
    assert found[0].low > 0  # it knows a lighthouse from a beehive; the alphabet does not


# ── synthetic queries ────────────────────────────────────────────────────────────────────────

TEXTS = {f"p{i}": f"text {i}" for i in range(60)}


def made_lists(seed=3, queries=50, size=12, lead=1.0):
    """Lists whose own passage leads by so much; the student sees the same with more noise."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(0, 1, (queries, size))
    truth[:, 0] += lead
    rows = {
        "query_id": [f"q{i:02}" for i in range(queries)],
        "query": [f"query {i}" for i in range(queries)],
        "passages": [rng.permutation(list(TEXTS))[:size].tolist() for _ in range(queries)],
        "teacher": (3 * truth + 2).tolist(),
        "student": (0.1 * truth + rng.normal(0, 0.05, truth.shape)).tolist(),
    }
    for name in ("passages", "teacher", "student"):  # one whose candidates were all itself
        rows[name].append(rows[name][0][:1])
    return rows | {"query_id": [*rows["query_id"], "alone"], "query": [*rows["query"], "alone"]}


def in_another_order(rng, lists):
    order = rng.sample(range(len(lists["query"])), len(lists["query"]))
    shuffled = {name: [column[i] for i in order] for name, column in lists.items()}
    for row in range(len(order)):
        length = len(shuffled["passages"][row])
        places = [0, *rng.sample(range(1, length), length - 1)]
        for name in ("passages", "teacher", "student"):
            shuffled[name][row] = [shuffled[name][row][i] for i in places]
    return shuffled


@settings(max_examples=20)
@given(ORDERS)
def test_lists_say_the_same_in_any_order(rng):
    lists = made_lists()
    assert audit_lists(in_another_order(rng, lists), TEXTS, 0.04) == audit_lists(lists, TEXTS, 0.04)


def test_figures_of_lists_are_what_they_are_called():
    lists = made_lists()
    found = audit_lists(lists, TEXTS, 0.04, examples=4)
    teacher, student = (np.array(lists[name][:-1], np.float64) for name in ("teacher", "student"))
    above = teacher[:, 1:] - teacher[:, :1]
    assert (found.queries, found.without_candidates, found.length) == (50, 1, 12)
    assert found.rank == np.mean(1 + (above > 0).sum(axis=1))
    assert found.not_first == np.mean((above > 0).any(axis=1))
    assert found.logit == pytest.approx(teacher[:, 0].mean())
    t, s = (x - x.mean(axis=1, keepdims=True) for x in (teacher, student))
    assert found.correlation == pytest.approx(np.corrcoef(t.ravel(), s.ravel())[0, 1])
    assert 0.8 < found.correlation < 1
    assert found.amount == pytest.approx(t.std())
    assert found.false_negatives == np.mean(above > found.amount) > 0
    assert found.margins == margins(lists["teacher"], lists["student"], 0.04)
    assert len(found.examples) == len({e.query_id for e in found.examples}) == 4
    excess = [e.candidate_logit - e.positive_logit for e in found.examples]
    assert excess == sorted(excess, reverse=True)
    assert excess[0] == above.max() and excess[-1] > found.amount
    for example in found.examples:
        row = lists["query_id"].index(example.query_id)
        place = lists["passages"][row].index(example.candidate)
        assert example.query == lists["query"][row]
        assert example.positive == lists["passages"][row][0]
        assert example.positive_logit == lists["teacher"][row][0]
        assert example.candidate_logit == lists["teacher"][row][place]
        assert example.candidate_text == TEXTS[example.candidate]


@settings(max_examples=25)
@given(factor=st.floats(0.01, 100), shift=st.floats(-20, 20))
def test_false_negatives_do_not_depend_on_the_scale_of_the_logits(factor, shift):
    lists = made_lists()
    scaled = lists | {"teacher": [[factor * x + shift for x in row] for row in lists["teacher"]]}
    there, back = audit_lists(lists, TEXTS, 0.04), audit_lists(scaled, TEXTS, 0.04)
    assert back.false_negatives == there.false_negatives
    assert [(e.query_id, e.candidate) for e in back.examples] == [
        (e.query_id, e.candidate) for e in there.examples
    ]
    assert back.amount == pytest.approx(factor * there.amount)
    assert back.correlation == pytest.approx(there.correlation)


def test_a_larger_lead_leaves_fewer_false_negatives():
    found = [audit_lists(made_lists(lead=lead), TEXTS, 0.04) for lead in (-2, 0, 2, 9)]
    shares = [lists.false_negatives for lists in found]
    assert shares == sorted(shares, reverse=True) and shares[-1] == 0 and not found[-1].examples
    ranks = [lists.rank for lists in found]
    assert ranks == sorted(ranks, reverse=True) and ranks[-1] == 1
    assert [lists.doubtful for lists in found] == [True, True, False, False]


def test_a_candidate_that_scores_as_the_own_passage_is_not_above_it():
    lists = made_lists(lead=9.0)
    lists["teacher"] = [[row[0], row[0], *row[2:]] for row in lists["teacher"][:-1]] + [[1.0]]
    found = audit_lists(lists, TEXTS, 0.04)
    assert (found.rank, found.not_first, found.false_negatives) == (1, 0, 0)


def test_a_teacher_that_knows_nothing_ranks_the_own_passage_amid_the_list_and_is_doubted():
    for size in (8, 26, 60):  # however long the lists are
        random_lists = made_lists(queries=400, size=size, lead=0.0)
        found = audit_lists(random_lists, TEXTS, 0.04)
        assert found.rank == pytest.approx((size + 1) / 2, rel=0.07)
        assert found.doubtful
    assert DOUBTFUL * 26 == pytest.approx(12)


def test_lists_without_any_candidate_are_refused():
    lists = {name: column[-1:] for name, column in made_lists().items()}
    with pytest.raises(InputError, match="no synthetic query has candidates"):
        audit_lists(lists, TEXTS, 0.04)


# ── verdict ──────────────────────────────────────────────────────────────────────────────────

ROOM = HeadRoom("all", 99, 99, "ndcg@10", 30, 0.4, 0.45, 0.05, 0.02, 0.08, 50, 30, 19)
WELL, DOUBTED = (audit_lists(made_lists(lead=lead), TEXTS, 0.04) for lead in (3.0, -1.0))
OPPOSED = replace(WELL, correlation=-0.2)


def room(low, difference, high, queries=99):
    return replace(ROOM, low=low, difference=difference, high=high, queries=queries)


@pytest.mark.parametrize(
    ("head_room", "lists", "outlook", "words"),
    [
        (ROOM, WELL, Outlook.GOOD, "ranks better than the model: +0.0500 [+0.0200, +0.0800]"),
        (ROOM, None, Outlook.GOOD, "better than the model"),
        (ROOM, DOUBTED, Outlook.BAD, "hardly about their passages"),
        (ROOM, OPPOSED, Outlook.UNKNOWN, "oppose the model's"),
        (room(-0.01, 0.02, 0.05), WELL, Outlook.UNKNOWN, "cannot tell"),
        (room(-0.01, 0.02, 0.05), WELL, Outlook.UNKNOWN, "includes zero"),
        (room(-0.03, -0.003, 0.02), WELL, Outlook.BAD, "no better than the model, so training"),
        (room(-0.05, -0.03, -0.01), WELL, Outlook.BAD, "worse than the model, so training"),
        (room(0.01, 0.2, 0.4, FEWEST - 1), WELL, Outlook.UNKNOWN, "9 queries are few"),
        (room(-0.4, -0.2, -0.1, FEWEST - 1), WELL, Outlook.UNKNOWN, "cannot tell"),
        (room(0.01, 0.2, 0.4, FEWEST), WELL, Outlook.GOOD, "better than the model"),
        (None, WELL, Outlook.UNKNOWN, "head-room is unknown"),
        (None, DOUBTED, Outlook.BAD, "head-room is unknown"),
    ],
)
def test_the_verdict_follows_from_the_figures(head_room, lists, outlook, words):
    found = audit("teacher", head_room, lists)
    assert found.outlook is outlook
    assert words in found.verdict and "\n" not in found.verdict


def test_with_nothing_to_tell_from_there_is_no_verdict():
    with pytest.raises(InputError, match="nothing to audit with"):
        audit("teacher", None, None)


# ── shown and kept ───────────────────────────────────────────────────────────────────────────


def shown(found: Audit) -> str:
    with console.capture() as capture:
        print_audit(found)
    return capture.get()


def test_an_audit_is_json():
    found = audit("teacher", head_room(Wobbling(), collection()), WELL)
    assert json.loads(json.dumps(asdict(found), allow_nan=False)) == json.loads(
        json.dumps(asdict(found))
    )
    assert json.loads(json.dumps(asdict(found)))["outlook"] == found.outlook


def test_what_is_printed_are_the_figures():
    found = audit("teacher", replace(ROOM, queries=40), WELL)
    page = shown(found)
    for figure in ("0.4000", "0.4500", "+0.0500 [+0.0200, +0.0800]", "a sample of 40 of all"):
        assert figure in " ".join(page.split())
    assert f"{WELL.false_negatives:.1%}" in page and f"{WELL.rank:.2f}" in page
    assert found.verdict in " ".join(page.split())


def test_bars_are_as_long_as_the_counts():
    page = shown(audit("teacher", None, WELL))
    rows = [line.split("│")[1:4] for line in page.splitlines() if "█" in line and "│" in line]
    longest = max(bar.count("█") for _, bar, _ in rows)
    assert longest == max(bar.count("█") for *_, bar in rows) == 24
    start = WELL.margins.edges.index(0.0)
    above = sum(WELL.margins.teacher[start : start + 2])
    zero = next(bar for edge, bar, _ in rows if edge.strip() == "+0.000")
    counts = WELL.margins.teacher
    most = max(sum(counts[i : i + 2]) for i in range(start % 2, len(counts), 2))
    assert zero.count("█") == int(above / most * 24)


def test_texts_that_look_like_markup_are_printed_as_they_are():
    texts = {passage: f"see [/bold] and [red]{passage}" for passage in TEXTS}
    lists = made_lists(lead=-1.0)
    lists["query"] = [f"what is [/x] {query}" for query in lists["query"]]
    found = audit(
        "a [/b] teacher", replace(ROOM, judgements="split [/dev]"), audit_lists(lists, texts, 0.1)
    )
    page = " ".join(shown(found).split())
    assert "what is [/x] query" in page and "see [/bold] and [red]p" in page
    assert "a [/b] teacher" in page and "split [/dev]" in page
