"""The verdict: what it says of made-up intervals, and of real runs that provoke each case."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, strategies as st
from recipes import tiny_recipe
from tiny_runs import settle_words

from tercet.commands.adapt import adapt
from tercet.commands.evaluate import evaluate
from tercet.config.loading import load_recipe
from tercet.core.schema import InputError, Passage
from tercet.evaluation.verdict import run_verdict
from tercet.modeling import BiEncoder
from tercet.pipeline.pipeline import Pipeline
from tercet.pipeline.verdict import Evidence, Reported, Selection, verdict_of
from tercet.reports.run_report import run_report
from tercet.retrieval import (
    BM25Retriever,
    DenseRetriever,
    ExactIndex,
    HybridRetriever,
    evaluate as evaluate_metrics,
)
from tercet.retrieval.significance import Interval
from tercet.studio import pages

# ── made-up intervals ────────────────────────────────────────────────────────────────────────────


def evidence(difference: float, reach: float, queries: int = 60, needed: int = 400) -> Evidence:
    interval = Interval(difference, difference - reach, difference + reach)
    return Evidence("ndcg@10", queries, interval, needed)


def chosen(weight: float, held: Evidence, *, best: float | None = None, **given: Any) -> Selection:
    best = weight if best is None else best
    return Selection(weight, best, held if best else None, held, **given)


UP, DOWN, OPEN = evidence(0.1, 0.05), evidence(-0.1, 0.05), evidence(-0.01, 0.05)
CASES = {
    "better": verdict_of(chosen(1.0, UP), Reported(UP, "test")),
    "part of the way": verdict_of(chosen(0.5, UP), Reported(UP, "test")),
    "want of evidence": verdict_of(chosen(0.0, OPEN, best=0.5), Reported(OPEN, "test")),
    "harm": verdict_of(chosen(0.0, DOWN), Reported(DOWN, "test")),
    "contradicted": verdict_of(chosen(1.0, UP), Reported(DOWN, "test")),
}


def test_five_cases_have_five_first_lines() -> None:
    assert {name: verdict.text for name, verdict in CASES.items()} == {
        "better": (
            "Ships: the adapted model. 60 judged queries agree: ndcg@10 +0.1000 [+0.0500, +0.1500]."
            " 60 held-out synthetic queries gain: ndcg@10 +0.1000 [+0.0500, +0.1500]."
            " Next: deploy it."
        ),
        "part of the way": (
            "Ships: part of the way (half of the trained weights). 60 judged queries agree: "
            "ndcg@10 +0.1000 [+0.0500, +0.1500]. 60 held-out synthetic queries gain: "
            "ndcg@10 +0.1000 [+0.0500, +0.1500]. Next: deploy it."
        ),
        "want of evidence": (
            "Ships: the base model, unchanged: 60 held-out synthetic queries cannot decide, "
            "ndcg@10 -0.0100 [-0.0600, +0.0400], and about 400 would. 60 judged queries say of "
            "the trained weights: ndcg@10 -0.0100 [-0.0600, +0.0400]. Next: raise "
            "queries.count 7-fold."
        ),
        "harm": (
            "Ships: the base model, unchanged: training did harm, ndcg@10 -0.1000 "
            "[-0.1500, -0.0500] on 60 held-out synthetic queries. 60 judged queries say of "
            "the trained weights: ndcg@10 -0.1000 [-0.1500, -0.0500]. Next: lower "
            "training.learning_rate or take another teacher; the audit tells what it knows."
        ),
        "contradicted": (
            "60 judged queries contradict the held-out ones: ndcg@10 -0.1000 [-0.1500, -0.0500]. "
            "Ships all the same: the adapted model; 60 held-out synthetic queries gain: "
            "ndcg@10 +0.1000 [+0.0500, +0.1500]. Next: do not deploy; gate with "
            "evaluation.gate: test."
        ),
    }


numbers = st.floats(-1, 1).map(lambda x: round(x, 3))
evidences = st.builds(
    evidence, numbers, st.floats(0, 1).map(abs), st.integers(1, 5000), st.integers(50, 9000)
)


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    weight = draw(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0]))
    best = weight or draw(st.sampled_from([0.0, 0.5, 1.0]))
    confirmation = draw(evidences) if best else None
    return Selection(weight, best, confirmation, draw(evidences), draw(st.none() | evidences))


@given(selections(), st.none() | st.builds(Reported, evidences, st.sampled_from(["", "test"])))
def test_the_first_line_names_what_ships_and_a_base_is_never_called_adapted(
    chosen: Selection, reported: Reported | None
) -> None:
    verdict = verdict_of(chosen, reported, gate="dev" if chosen.turned_down else "")
    names = {"base": "the base model, unchanged", "mixture": "part of the way"}
    assert names.get(verdict.shipped, "the adapted model") in str(verdict)
    others = {*names.values(), "the adapted model"} - {
        names.get(verdict.shipped, "the adapted model")
    }
    assert not any(name in verdict.text for name in others)
    if verdict.shipped == "base":
        assert "adapted" not in " ".join([verdict.text, verdict.reason, verdict.next])
    assert verdict.text.count("Ships") == 1 and "\n" not in verdict.text
    assert verdict.text.startswith("Ships: ") != verdict.contradicted
    assert reported is None or reported.who in verdict.text or reported.evidence.unchanged


def test_the_queries_that_would_decide_follow_from_the_variance_seen() -> None:
    before = {f"q{i}": 0.5 for i in range(100)}
    after = {query: 0.5 + (0.22 if i % 2 else -0.2) for i, query in enumerate(before)}
    found = Evidence.of("ndcg@10", before, after)
    # 2.8 standard errors: the deviation is .211, the difference .01.
    assert found.queries == 100 and found.needed == 3500
    small = Evidence.of("ndcg@10", {"a": 0.5, "b": 0.5}, {"a": 0.5, "b": 0.51})
    assert small.needed == 50, "two queries tell nothing, whatever their variance"


def test_a_run_without_an_evaluation_has_no_verdict(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not evaluated"):
        run_verdict(tmp_path)


# ── real runs ────────────────────────────────────────────────────────────────────────────────────

#: Training that gains on held-out queries: they are spans, and tell their passage from others.
GAINING: dict[str, Any] = {
    "queries": {"count": 240, "per_passage": 4},
    "triplets": {"held_out": 0.5},
    "teacher": {"student_weight": 1.0},
    "loss": {"info_nce": 1.0},
    "training": {"num_train_epochs": 3, "learning_rate": 1e-3},
    "evaluation": {"interpolation_steps": 1},
}


class Bench:
    """Runs over the tiny corpus, which differ in their settings and in who judged its queries."""

    def __init__(self, folder: Path, beir: Path, base: Path, teacher: Path) -> None:
        self.folder, self.beir, self.base, self.teacher = folder, beir, base, teacher

    def judged_by(self, model: Path, name: str) -> Path:
        """The corpus with a query about every passage; relevant is what the model finds first."""
        corpus = Path(shutil.copytree(self.beir, self.folder / name))
        rows = [json.loads(line) for line in (corpus / "corpus.jsonl").open()]
        texts = [Passage(row["_id"], row["title"], row["text"]).contents for row in rows]
        queries = {f"j{i:02}": " ".join(text.split()[2:8]) for i, text in enumerate(texts)}
        lines = (json.dumps({"_id": query, "text": text}) for query, text in queries.items())
        (corpus / "queries.jsonl").write_text("\n".join(lines))
        encoder = BiEncoder.from_pretrained(model, precision="fp32", max_length=48)
        scores = encoder.encode_queries([*queries.values()]) @ encoder.encode_passages(texts).T
        found = zip(queries, scores.argmax(axis=1).tolist(), strict=True)
        judged = "".join(f"{query}\t{rows[row]['_id']}\t1\n" for query, row in found)
        shutil.rmtree(corpus / "qrels")
        (corpus / "qrels").mkdir()
        (corpus / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\n" + judged)
        return corpus

    def run(self, name: str, corpus: Path, *options: str, **sections: Any) -> Path:
        """The folder of a run, made."""
        given: dict[str, Any] = {"corpus": corpus, "model": self.base, "teacher": self.teacher}
        if weighted := sections.pop("teacher", {}):
            given["teacher"] = {"name": self.teacher, **weighted}
        recipe = tiny_recipe(self.folder, name=name, **given, **sections)
        adapt(load_recipe(recipe, options))
        return self.folder / "runs" / name


@pytest.fixture(scope="module")
def bench(
    tmp_path_factory: pytest.TempPathFactory,
    tiny_beir_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tiny_texts: list[str],
) -> Bench:
    """Five runs, a case each, and a sixth in which judged queries gate."""
    folder = tmp_path_factory.mktemp("verdicts")
    base = Path(shutil.copytree(tiny_encoder_path, folder / "base"))
    teacher = Path(shutil.copytree(tiny_cross_encoder_path, folder / "teacher"))
    for model in (base, teacher):
        settle_words(model, tiny_texts)
    made = Bench(folder, tiny_beir_path, base, teacher)
    # The same training, judged as the base model would and as the trained one.
    as_before = made.judged_by(base, "as_before")
    trained = made.run("contradicted", as_before, **GAINING)
    as_trained = made.judged_by(trained / "model", "as_trained")
    made.run("better", as_trained, **GAINING)
    made.run("gated", as_before, "--evaluation.gate=test", **GAINING)
    # Steps too long for the end of the way.
    far = GAINING | {"training": {"num_train_epochs": 3, "learning_rate": 5e-3}}
    made.run("part", as_trained, **far | {"evaluation": {"interpolation_steps": 20}})
    # Far towards a teacher that knows nothing; then with a few queries, which see it or do not.
    made.base = trained / "model"
    lost = {"training": {"num_train_epochs": 3, "learning_rate": 0.05}}
    lost |= {"evaluation": {"interpolation_steps": 1}}
    made.run("harm", as_trained, triplets={"held_out": 0.5}, queries=GAINING["queries"], **lost)
    for seed in range(9):
        few = {"triplets": {"held_out": 0.2}, "queries": {"count": 30}}
        lack = made.run("lack", as_trained, f"--seed={seed}", **few, **lost)
        if "cannot decide" in str(run_verdict(lack)):
            break
    return made


#: What each run ships, and words of its first line.
SHIPPED = {
    "better": ("trained", "Ships: the adapted model. 60 judged queries agree: ndcg@10 +"),
    "part": ("mixture", "Ships: part of the way ("),
    "lack": ("base", "held-out synthetic queries cannot decide"),
    "harm": ("base", "Ships: the base model, unchanged: training did harm, mrr@10 -"),
    "contradicted": ("trained", "60 judged queries contradict the held-out ones: ndcg@10 -"),
    "gated": ("base", "gating queries of split test turned down what held-out ones chose"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_a_real_run_provokes_each_verdict(bench: Bench, name: str) -> None:
    verdict = run_verdict(bench.folder / "runs" / name)
    shipped, words = SHIPPED[name]
    assert words in str(verdict), verdict
    assert verdict.shipped == shipped
    assert verdict.contradicted == (name == "contradicted")
    manifest = json.loads((bench.folder / "runs" / name / "model" / "manifest.json").read_text())
    assert manifest["facts"]["shipped"] == shipped
    assert manifest["facts"]["reason"] == verdict.reason
    assert verdict.reason in manifest["facts"]["verdict"]


@pytest.mark.slow
@pytest.mark.parametrize("name", SHIPPED)
def test_every_view_says_the_verdict_first(
    bench: Bench, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bench.folder / "runs" / name
    verdict = run_verdict(run)
    adapt(load_recipe(run / "recipe.yaml"))
    told = capsys.readouterr().out
    report = (run / "report.md").read_text()
    assert report.splitlines()[0] == verdict.text
    card = (run / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["verdict"], metrics["shipped"]) == (verdict.text, verdict.shipped)
    page = pages.report(run)
    assert page.index('class="verdict"') < page.index("<table")
    words = told.partition("unchanged\n" + verdict.text[:20])[1]
    assert words, "the verdict is the first line after the steps"
    shown = " ".join(told[told.index(verdict.text[:20]) :].split())
    assert shown.startswith(verdict.text)
    told = told[told.index(verdict.text[:20]) :].partition("  model:")[0]
    views = (told, report.partition("## Time")[0], card.partition("## How it was made")[0], page)
    assert all(("base (ships)" in view) == (verdict.shipped == "base") for view in views)
    if verdict.shipped == "base":
        assert not [view for view in views if "adapted" in view]


@pytest.mark.slow
def test_eval_compares_one_model_where_the_base_ships(
    bench: Bench, capsys: pytest.CaptureFixture[str]
) -> None:
    run = bench.folder / "runs" / "lack"
    options = ["--evaluation.latency_queries=0", "--evaluation.baseline=adapted"]
    evaluate(load_recipe(run / "recipe.yaml", options))
    told = capsys.readouterr().out
    results = json.loads((run / "results" / "metrics.json").read_text())
    assert [system["name"] for system in results["systems"]] == [
        "bm25",
        "base (ships)",
        "bm25+base (ships)",
    ]
    assert results["baseline"] == "base (ships)"
    page = (run / "results" / "report.html").read_text()
    assert "Ships: the base model, unchanged" in page.partition("<main")[0]
    assert "Ships: the base model, unchanged" in told
    shown = page.partition("<body>")[2].partition('id="setup"')[0].partition("<script>")[0]
    assert "adapted" not in shown
    shutil.rmtree(run / "results")


@pytest.mark.slow
def test_the_gain_of_the_hybrid_stands_beside(bench: Bench) -> None:
    folder = bench.folder / "runs" / "better"
    report = run_report(Pipeline(load_recipe(folder / "recipe.yaml")))
    hybrid = report.hybrid
    dense = next(c for c in report.comparisons if c.measure == hybrid.comparison.measure)
    assert hybrid.comparison.measure == "ndcg@10"
    assert hybrid.comparison.interval != dense.interval
    pipeline = Pipeline(load_recipe(folder / "recipe.yaml"))
    lexical = BM25Retriever(pipeline.passages)
    encoder, index = pipeline.adapted_model(), ExactIndex()
    index.build(pipeline.passages.ids, encoder.encode_passages(pipeline.passages.contents[:]))
    ways = pipeline.evaluation.facts["hybrid"]["adapted"]

    def mean(share: float | None, *splits: str, metric: str = "ndcg@10") -> float:
        """Of a hybrid retriever over queries of these splits."""
        fused = HybridRetriever([lexical, DenseRetriever(encoder, index)], weight=share)
        values: list[float] = []
        for queries, qrels, _ in map(pipeline.split, splits):
            rankings = fused.search([query.text for query in queries], 100)
            run = {query.id: ranking for query, ranking in zip(queries, rankings, strict=True)}
            values += evaluate_metrics(qrels, run, [metric])[metric].values()
        return sum(values) / len(values)

    assert hybrid.comparison.after == pytest.approx(mean(None, "test"))
    assert hybrid.weighted.after == pytest.approx(mean(ways["share"], "test"))
    held_out = {"ranks": None, "scores": ways["share"], "alone": 1.0}
    for way, share in held_out.items():
        assert ways[way] == pytest.approx(mean(share, "validation", "guard", metric="mrr@10"))
    assert any("hybrid search with BM25" in sentence for sentence in report.verdict.more)
    assert any("Held-out queries find most with what ships" in x for x in report.verdict.more)
