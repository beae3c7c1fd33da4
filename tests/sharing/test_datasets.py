"""Recipes for what is published run whole, on stand-ins of the same shape under other names."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cohere_server import Api, serve
from programs import ROOT, run_here

pytestmark = pytest.mark.slow

KEY = "co-canary-5f0c1e77"
MODEL = "embed-v4.0"


def vector(topic: int, name: str) -> list[float]:
    """768 numbers, as Cohere's of 2022, nearer to others of the topic; not of unit length."""
    seeds = (f"topic {topic}", name)
    parts = [
        np.random.default_rng(int.from_bytes(hashlib.sha256(s.encode()).digest()[:8]))
        for s in seeds
    ]
    whole = 2 * parts[0].standard_normal(768) + parts[1].standard_normal(768)
    return whole.astype(np.float32).tolist()


def records(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text().splitlines()]


@pytest.fixture(scope="module")
def stand_ins(tiny_beir_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`corpus` and `queries`, two datasets with the columns and types of Cohere's 22-12 MIRACL."""
    folder = tmp_path_factory.mktemp("cohere")
    for name in ("corpus", "queries"):
        (folder / name / "data").mkdir(parents=True)
    passages = records(tiny_beir_path / "corpus.jsonl")
    docid = {row["_id"]: f"{i}#0" for i, row in enumerate(passages)}
    rows = [
        {"docid": docid[row["_id"]], "title": row.get("title", ""), "text": row["text"]}
        for row in passages
    ]
    table = pa.Table.from_pylist(rows).append_column(
        "emb", _vectors([vector(int(p["_id"][1:]) // 3, p["_id"]) for p in passages])
    )
    half = len(rows) // 2
    for number, part in enumerate((table.slice(0, half), table.slice(half))):
        pq.write_table(part, folder / "corpus" / "data" / f"train-{number:05d}-of-00002.parquet")
    texts = {row["docid"]: row for row in rows}
    judged: dict[str, dict[str, list[dict[str, str]]]] = {}
    for line in (tiny_beir_path / "qrels" / "test.tsv").read_text().splitlines()[1:]:
        query, passage, grade = line.split("\t")
        kind = "positive_passages" if int(grade) > 0 else "negative_passages"
        judged.setdefault(query, {"positive_passages": [], "negative_passages": []})
        judged[query][kind].append(texts[docid[passage]])
    queries = [q for q in records(tiny_beir_path / "queries.jsonl") if q["_id"] in judged]
    struct = pa.list_(pa.struct(dict.fromkeys(("docid", "title", "text"), pa.string())))
    columns: dict[str, Any] = {
        "query_id": [q["_id"] for q in queries],
        "query": [q["text"] for q in queries],
        **{
            kind: pa.array([judged[q["_id"]][kind] for q in queries], struct)
            for kind in ("positive_passages", "negative_passages")
        },
        "emb": _vectors([vector(int(q["_id"][1:]), q["_id"]) for q in queries]),
    }
    pq.write_table(pa.table(columns), folder / "queries" / "data" / "dev-00000-of-00001.parquet")
    return folder


def _vectors(rows: list[list[float]]) -> pa.Array:
    return pa.array(rows, pa.list_(pa.float32()))


@pytest.fixture
def api() -> Iterator[Api]:
    with serve(KEY, tokens=lambda text: len(text.split())) as api:
        yield api


def test_miracl_trains_and_is_compared_with_cohere_s_vectors_old_and_new(
    stand_ins: Path,
    tiny_mt5_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    api: Api,
    tmp_path: Path,
) -> None:
    names = {
        "runs_dir": tmp_path / "runs",
        "corpus.passages.path": stand_ins / "corpus",
        "corpus.queries.path": stand_ins / "queries",
        "queries.generators.0.model": tiny_mt5_path,
        "teacher.name": tiny_cross_encoder_path,
        "model.name": tiny_encoder_path,
        # Not names, but sizes: of 60 passages, and of models that read 64 tokens.
        "queries.count": 90,
        "teacher.max_length": 64,
    }
    arguments = [f"--{name}={value}" for name, value in names.items()]
    recipe = "recipes/miracl_id.yaml"
    cache, key = {"TERCET_CACHE": str(tmp_path / "cache")}, {"CO_API_KEY": KEY}
    trained = run_here("train.py", ROOT / recipe, *arguments, **cache)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "12 judged queries of split 'dev'" in trained.stdout
    corpus = json.loads((tmp_path / "runs/miracl_id/corpus/manifest.json").read_text())
    assert corpus["facts"]["passages"] == 60 and corpus["facts"]["of_unknown_passages"] == 0

    theirs = "{kind: vectors, name: cohere 22-12}"
    paid = f"{{kind: api, api: cohere, model: {MODEL}}}"
    systems = f"[{{kind: base}}, {{kind: adapted}}, {theirs}, {paid}]"
    more = [
        *arguments,
        "--corpus.passages.vector=emb",
        "--corpus.queries.vector=emb",
        f"--evaluation.systems={systems}",
        "--evaluation.latency_queries=20",
    ]
    without = run_here("eval.py", ROOT / recipe, *more, **cache)
    assert without.returncode == 2 and "set CO_API_KEY" in without.stderr and not api.calls
    paid = run_here("eval.py", ROOT / recipe, *more, **cache, **key, CO_API_URL=api.address)
    assert paid.returncode == 0, paid.stdout + paid.stderr
    assert f"{MODEL}: 72 texts to embed" in paid.stdout
    results = tmp_path / "runs/miracl_id/results"
    metrics = json.loads((results / "metrics.json").read_text())
    exact = {
        c["system"]: c["figures"]["ndcg@10"] for c in metrics["cells"] if c["index"] == "exact"
    }
    # Where the base model ships, it is the adapted one.
    assert set(exact) - {"base", "adapted", "base (ships)"} == {"cohere 22-12", MODEL}
    assert {"base", "adapted"} <= set(exact) or "base (ships)" in exact
    assert exact["cohere 22-12"]["mean"] > 0.9, "its vectors know the topics"
    facts = {system["name"]: system for system in metrics["systems"]}
    assert facts["cohere 22-12"]["dimension"] == 768 and facts[MODEL]["dimension"] == 1536
    assert facts[MODEL]["dollars_per_million_passages"] > 0
    base = "base" if "base" in facts else "base (ships)"
    assert facts[base]["dollars_per_million_passages"] is None

    sent = len(api.texts())
    assert sent == 72 and not any(api.again.values())
    shutil.rmtree(tmp_path / "runs/miracl_id/vectors")
    again = run_here("eval.py", ROOT / recipe, *more, **cache, CO_API_URL=api.address)
    assert again.returncode == 0, again.stderr
    assert len(api.texts()) == sent, "what was paid for needs neither a call nor a key"
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or KEY.encode() not in file.read_bytes(), file
    assert KEY not in paid.stdout + paid.stderr


def test_a_retired_space_is_asked_by_a_model_that_learnt_it(
    stand_ins: Path,
    tiny_mt5_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tmp_path: Path,
) -> None:
    names = {
        "runs_dir": tmp_path / "runs",
        "corpus.passages.path": stand_ins / "corpus",
        "corpus.queries.path": stand_ins / "queries",
        "queries.generators.0.model": tiny_mt5_path,
        "teacher.name": tiny_cross_encoder_path,
        "model.name": tiny_encoder_path,
        "queries.count": 60,
        "teacher.max_length": 64,
        "evaluation.latency_queries": 0,
    }
    arguments = [f"--{name}={value}" for name, value in names.items()]
    recipe = ROOT / "recipes/miracl_id_query_side.yaml"
    for name in ("train.py", "eval.py"):
        done = run_here(name, recipe, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    run = tmp_path / "runs" / "miracl_id_query_side"
    modules = json.loads((run / "model" / "modules.json").read_text())
    assert "Dense" in " ".join(module["type"] for module in modules)
    results = json.loads((run / "results" / "metrics.json").read_text())
    systems = {cell["system"] for cell in results["cells"]}
    assert "cohere 22-12" in systems
    assert {"regressed", "adapted"} <= systems or "regressed (ships)" in systems
    # The passages' vectors are those that were published, and not the model's own.
    assert (
        json.loads((run / "embeddings" / "manifest.json").read_text())["facts"]["dimension"] == 768
    )


def test_wikipedia_is_mined_by_lists_on_disk_and_its_queries_need_another_way(
    tiny_beir_path: Path,
    tiny_seq2seq_path: Path,
    tiny_encoder_path: Path,
    tiny_cross_encoder_path: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "wikipedia-22-12-en-embeddings"
    (folder / "data").mkdir(parents=True)
    passages = records(tiny_beir_path / "corpus.jsonl")
    columns: dict[str, Any] = {
        "id": pa.array(range(len(passages)), pa.int32()),
        "title": [row.get("title", "") for row in passages],
        "text": [row["text"] for row in passages],
        "url": ["https://example.org"] * len(passages),
        "wiki_id": pa.array(range(len(passages)), pa.int32()),
        "views": pa.array([1.5] * len(passages), pa.float32()),
        "paragraph_id": pa.array([0] * len(passages), pa.int32()),
        "langs": pa.array([7] * len(passages), pa.int32()),
        "emb": _vectors([vector(i // 3, str(i)) for i in range(len(passages))]),
    }
    pq.write_table(pa.table(columns), folder / "data" / "train-00000-of-00001.parquet")
    changed = {
        "runs_dir": tmp_path / "runs",
        "corpus.passages.path": folder,
        "queries.generators.0.model": tiny_seq2seq_path,
        "teacher.name": tiny_cross_encoder_path,
        "model.name": tiny_encoder_path,
        # Sizes that 60 passages allow, and no server.
        "queries.count": 90,
        "teacher.max_length": 64,
        "negatives.index.factory": "IVF1,SQ8",
        "index.backend": "exact",
    }
    arguments = [f"--{name}={value}" for name, value in changed.items()]
    recipe = ROOT / "recipes" / "wikipedia_en.yaml"
    made = run_here("train.py", recipe, "--until=targets", *arguments)
    assert made.returncode == 0, made.stdout + made.stderr
    manifest = json.loads((tmp_path / "runs/wikipedia_en/negatives/manifest.json").read_text())
    assert manifest["facts"]["short_lists"] == 0
    asked = run_here(
        "eval.py", recipe, *arguments, "--evaluation.systems=[{kind: base}, {kind: vectors}]"
    )
    assert asked.returncode == 2
    assert "retired on 2026-04-04" in asked.stderr and "Three ways on" in asked.stderr
