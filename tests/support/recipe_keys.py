"""Every key of a recipe: the steps that it belongs to, and another value to try it with.

This is the one place of these tests that names keys.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Tokens that the student reads of a passage: fewer than there are.
MAX_LENGTH = 16

COMMIT = "0123456789abcdef0123456789abcdef01234567"

#: A run's name, the run that it goes on from, and the keys that it has beside that one's.
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "whole": (
        "",
        {
            "corpus.path": "beir",
            "queries.generators": [{"kind": "spans"}],
            "queries.count": 24,
            "queries.per_passage": 1,
            "negatives.retrievers": [{"kind": "dense", "share": 15}, {"kind": "bm25", "share": 10}],
            "negatives.candidates": 6,
            "teacher.name": "teacher",
            "teacher.precision": "fp32",
            "teacher.max_length": 40,
            "model.name": "student",
            "model.precision": "fp32",
            "model.max_length": MAX_LENGTH,
            "training.num_train_epochs": 1,
            "training.per_device_train_batch_size": 8,
            "training.learning_rate": 1e-3,
            "training.bf16": False,
            "evaluation.interpolation_steps": 1,
        },
    ),
    # Queries by models, of which one is prompted.
    "written": (
        "whole",
        {
            "queries.count": 6,
            "queries.generators": [
                {
                    "kind": "seq2seq",
                    "model": "writer",
                    "max_new_tokens": 8,
                    "engine": "torch",
                    "precision": "fp32",
                },
                {"kind": "causal", "model": "babbler", "max_new_tokens": 8, "precision": "fp32"},
            ],
        },
    ),
    # Candidates by another encoder too.
    "other": (
        "whole",
        {
            "negatives.retrievers": [
                {"kind": "dense", "share": 15},
                {"kind": "bm25", "share": 10},
                {"kind": "dense", "share": 5, "model": "other", "precision": "fp32"},
            ]
        },
    ),
    # Several scorers.
    "mixed": (
        "whole",
        {
            "teacher.name": "cross-encoder/ms-marco-MiniLM-L6-v2",
            "teacher.precision": "auto",
            "teacher.max_length": 256,
            "teacher.scorers": [
                {"name": "teacher", "precision": "fp32", "max_length": 40},
                {"kind": "bm25"},
                {"kind": "bi_encoder", "name": "other", "precision": "fp32"},
            ],
        },
    ),
    # Approximate indexes.
    "faiss": (
        "whole",
        {
            "negatives.index.backend": "faiss",
            "negatives.index.factory": "IVF4,Flat",
            "negatives.index.nprobe": 1,
            "index.backend": "faiss",
            "index.factory": "IVF4,Flat",
            "index.nprobe": 1,
        },
    ),
    "graphs": (
        "whole",
        {
            "negatives.index.backend": "faiss",
            "negatives.index.factory": "HNSW2",
            "index.backend": "faiss",
            "index.factory": "HNSW2",
        },
    ),
    # A loss with every part of it.
    "loss": ("whole", {"loss.kind": "kl", "loss.info_nce": 0.5}),
    "lora": ("whole", {"model.lora_rank": 2}),
    # The trained model ships: it gains by far. No index in training holds all passages.
    "learned": (
        "whole",
        {
            "evaluation.passages": 10,
            "queries.count": 60,
            "training.num_train_epochs": 3,
            "loss.info_nce": 1.0,
            "triplets.held_out": 0.5,
        },
    ),
    # A half of the judged queries gates.
    "gated": ("whole", {"evaluation.gate": "test"}),
    # Epochs search a sample.
    "sampled": ("whole", {"evaluation.passages": 10}),
    "tables": (
        "whole",
        {
            "corpus.source": "tables",
            "corpus.path": "",
            "corpus.passages.path": "tables/passages.jsonl",
            "corpus.queries.path": "tables/queries.jsonl",
            "corpus.qrels.path": "tables/qrels.jsonl",
        },
    ),
    # Whatever the seed, the same queries: of six passages with one word each.
    "words": (
        "whole",
        {
            "corpus.path": "words",
            "queries.count": 6,
            "negatives.candidates": 3,
            "teacher.student_weight": 0.5,
        },
    ),
    # The query side alone: over the model's own vectors, and over given ones.
    "encoder": ("whole", {"model.train": "query_encoder"}),
    "adapter": (
        "whole",
        {
            "model.train": "query_adapter",
            "model.adapter_rank": 4,
            "training.num_train_epochs": 2,
        },
    ),
    "given": (
        "encoder",
        {"model.passage_vectors": "vectors.parquet", "model.regression_passages": 40},
    ),
    "given_adapter": ("adapter", {"model.passage_vectors": "own_vectors.parquet"}),
}


@dataclass(frozen=True)
class Key:
    """The steps that a key belongs to: their plans hold it, or what they read by it.

    Changed to `value` in the run `run`, with `given` keys in both, it makes these again, and `then`
    those after them whose inputs come out otherwise. `missing` is what making them would need and
    tests have not: then the steps' plans are compared, and nothing is made. What the model alone
    holds is not trained again either.
    """

    steps: tuple[str, ...]
    value: Any
    then: tuple[str, ...] = ()
    run: str = "whole"
    given: Mapping[str, Any] = field(default_factory=dict)
    #: The place of `N` in the key's lists.
    place: int = 0
    missing: str = ""


NONE: tuple[str, ...] = ()
AFTER_SCORES = ("triplets", "targets", "model", "evaluation")
MIXED = ("scores", *AFTER_SCORES)
AFTER_NEGATIVES = ("scores", *AFTER_SCORES)
AFTER_QUERIES = ("negatives", *AFTER_NEGATIVES)
#: What reads the base model itself, and what reads the student that it becomes.
BASE = ("embeddings", "student")
AFTER_STUDENT = ("negatives", "triplets", "targets", "model", "evaluation")
CHOSEN = ("model", "evaluation")
EVERY = ("embeddings", "queries", *AFTER_QUERIES)

WEAVIATE, HUB, COHERE, GGUF = "a Weaviate server", "the Hub", "Cohere's API", "a GGUF file"
SERVICE = "a service"
EXTRA, VALUES, PLUGIN = "an extra", "other keys' values", "a plug-in"
JUDGED = "judgements by the other ids"

_LIVE = {"model.train": "query_encoder", "index.backend": "weaviate", "index.collection": "Live"}
_LIVE_NEGATIVES = {
    "model.train": "query_encoder",
    "negatives.index.backend": "weaviate",
    "negatives.index.collection": "Live",
}
_PUBLISHED = {"corpus.source": "climate_fever"}
_ROWS = {"corpus.source": "tables", "corpus.path": ""}


#: A writer behind an API, and a reranker.
_WRITER = {"kind": "endpoint", "endpoint": "http://localhost:8000/v1", "model": "m"}
_RERANKER = {"teacher.api": "vllm", "teacher.name": "m", "teacher.endpoint": "http://localhost"}
_RERANKER |= {"teacher.precision": "auto", "teacher.max_length": 256}
_EMBEDDER = {"model.train": "query_adapter", "model.api": "openai", "model.name": "m"}
_EMBEDDER |= {"model.precision": "auto", "model.max_length": None}


def _of_writer(value: Any, steps: tuple[str, ...] = ("queries",)) -> Key:
    """A key of a writer behind an API."""
    given = {"queries.generators": [_WRITER]}
    return Key(steps, value, given=given, missing=SERVICE)


def _of_reranker(value: Any, steps: tuple[str, ...] = ("scores",)) -> Key:
    """A key of a reranker behind an API."""
    return Key(steps, value, given=_RERANKER, missing=SERVICE)


def _of_scorer(
    value: Any, then: tuple[str, ...] = (), place: int = 0, missing: str = "", **given: Any
) -> Key:
    """A key that the scorer at a place alone has; with `given` keys it is the only one."""
    steps = (f"scores_{('teacher', 'bm25', 'other')[place]}",)
    of_list = {"teacher.scorers": [given]} if given else {}
    return Key(steps, value, then, run="mixed", place=place, given=of_list, missing=missing)


_HUB_SCORER = {"name": "a/teacher", "precision": "fp32"}


def _of_service(value: Any, steps: tuple[str, ...] = ("scores_teacher",)) -> Key:
    """A key of a scorer behind an API."""
    scorer = {"kind": "api", "api": "vllm", "name": "teacher", "endpoint": "http://localhost"}
    return Key(steps, value, run="mixed", given={"teacher.scorers": [scorer]}, missing=SERVICE)


def _of_hub(table: str) -> dict[str, Any]:
    """A table that is a dataset of the Hub."""
    rest = {"passages": "tables/passages.jsonl", "queries": "tables/queries.jsonl"}
    rest |= {"qrels": "tables/qrels.jsonl"}
    paths = {f"corpus.{name}.path": path for name, path in rest.items()}
    return {
        **_ROWS,
        **paths,
        f"corpus.{table}.path": "a/dataset",
        f"corpus.{table}.revision": COMMIT,
    }


def _column(value: Any, then: tuple[str, ...] = (), table: str = "") -> Key:
    """A key of a table's files; with a `table`, one that only datasets of the Hub have."""
    if table:
        return Key(("corpus",), value, given=_of_hub(table), missing=HUB)
    return Key(("corpus",), value, then, run="tables")


def _nested(value: Any) -> Key:
    """A key of judgements in the rows of queries."""
    given = {"corpus.qrels.path": "", "corpus.queries.positives": "other"}
    return Key(("corpus",), value, run="tables", given=given, missing=VALUES)


#: How the files of a table are written; JSON lines are read alike.
_WRITTEN = {
    f"corpus.{table}.{name}": _column(value)
    for table in ("passages", "queries", "qrels")
    for name, value in {
        "encoding": "cp1252",
        "delimiter": ";",
        "quotes": "csv",
        "columns": ["a"],
        "sheet": "a",
    }.items()
}

KEYS: dict[str, Key] = {
    "name": Key(NONE, "second"),
    "runs_dir": Key(NONE, "kept"),
    "time_budget": Key(NONE, "20min"),
    "seed": Key(
        ("queries", "triplets", "targets", "model"),
        4,
        ("negatives", "scores", "evaluation"),
    ),
    # ── corpus
    "corpus.source": Key(
        ("corpus",),
        "tables",
        given={"corpus.passages.path": "tables/passages.jsonl"},
        missing=VALUES,
    ),
    "corpus.options": Key(("corpus",), {"delta": 1.0}, missing=PLUGIN),
    "corpus.path": Key(("corpus",), "second_beir", EVERY),
    "corpus.passages.path": _column("tables/second_passages.jsonl", EVERY),
    "corpus.passages.config": _column("b", table="passages"),
    "corpus.passages.split": _column("b", table="passages"),
    "corpus.passages.revision": _column(COMMIT[::-1], table="passages"),
    "corpus.passages.id": Key(("corpus",), "key", run="tables", missing=JUDGED),
    "corpus.passages.ids": Key(("corpus",), "made", run="tables", missing=JUDGED),
    "corpus.passages.title": _column("heading", EVERY),
    "corpus.passages.text": _column("summary", EVERY),
    "corpus.passages.vector": _column("vector"),
    "corpus.passages.chunk": Key(("corpus",), 100, EVERY, missing=EXTRA),
    "corpus.aggregate": Key(("corpus",), "max", ("evaluation",)),
    "corpus.queries.path": _column("tables/second_queries.jsonl", ("queries", "evaluation")),
    "corpus.queries.config": _column("b", table="queries"),
    "corpus.queries.split": _column("b", table="queries"),
    "corpus.queries.revision": _column(COMMIT[::-1], table="queries"),
    "corpus.queries.id": _column("other", ("queries", "evaluation")),
    "corpus.queries.text": _column("asked", ("queries", "evaluation")),
    "corpus.queries.vector": _column("vector"),
    "corpus.queries.positives": _nested("answers"),
    "corpus.queries.negatives": _nested("wrong"),
    "corpus.queries.separator": _nested(";"),
    "corpus.queries.grade": _nested("mark"),
    "corpus.queries.clicks": _nested("clicks"),
    "corpus.queries.click_grades": _nested("log2"),
    "corpus.qrels.path": _column("tables/second_qrels.jsonl", ("evaluation",)),
    "corpus.qrels.config": _column("b", table="qrels"),
    "corpus.qrels.split": _column("b", table="qrels"),
    "corpus.qrels.revision": _column(COMMIT[::-1], table="qrels"),
    "corpus.qrels.query": _column("asker", ("evaluation",)),
    "corpus.qrels.passage": _column("found", ("evaluation",)),
    "corpus.qrels.grade": _column("mark", ("evaluation",)),
    **_WRITTEN,
    "corpus.revision": Key(
        ("corpus",),
        COMMIT[::-1],
        given={**_PUBLISHED, "corpus.path": "a/dataset", "corpus.revision": COMMIT},
        missing=HUB,
    ),
    "corpus.unit": Key(("corpus",), "article", given=_PUBLISHED, missing=HUB),
    "corpus.tenant": Key(
        ("corpus",),
        ["acme"],
        given={"corpus.source": "weaviate", "corpus.path": "Articles"},
        missing=WEAVIATE,
    ),
    "corpus.passage_characters": Key(
        ("corpus",),
        300,
        given={"corpus.source": "documents", "corpus.path": "documents"},
        missing=EXTRA,
    ),
    "corpus.dev_split": Key(NONE, "test"),
    "corpus.test_split": Key(("evaluation",), "dev"),
    # ── queries
    "queries.generators.N.kind": Key(("queries",), "causal", run="written", missing=VALUES),
    "queries.generators.N.options": Key(("queries",), {"delta": 1.0}, missing=PLUGIN),
    "queries.generators.N.share": Key(("queries",), 3.0, AFTER_QUERIES, run="written"),
    "queries.generators.N.model": Key(("queries",), "babbler", run="written", missing=VALUES),
    "queries.generators.N.endpoint": _of_writer("http://localhost:8001/v1"),
    "queries.generators.N.key_variable": _of_writer("OTHER_KEY", NONE),
    "queries.generators.N.api": _of_writer("completion"),
    "queries.generators.N.judge": _of_writer("judge"),
    "queries.generators.N.request": _of_writer({"reasoning_effort": "low"}),
    "queries.generators.N.dollars": Key(
        NONE,
        1.0,
        given={
            "queries.generators": [
                _WRITER | {"dollars_per_million_read": 1.0, "dollars_per_million_written": 1.0}
            ]
        },
        missing=SERVICE,
    ),
    "queries.generators.N.tokens": _of_writer(100, NONE),
    "queries.generators.N.dollars_per_million_read": _of_writer(1.0, NONE),
    "queries.generators.N.dollars_per_million_written": _of_writer(1.0, NONE),
    "queries.generators.N.concurrency": _of_writer(2, NONE),
    "queries.generators.N.requests_per_minute": _of_writer(60.0, NONE),
    "queries.generators.N.engine": Key(("queries",), "auto", run="written", missing=EXTRA),
    "queries.generators.N.gguf_file": Key(
        ("queries",),
        "b.gguf",
        given={
            "queries.generators": [
                {"kind": "causal", "model": "a/model", "gguf_file": "a", "precision": "fp32"}
            ]
        },
        missing=GGUF,
    ),
    "queries.generators.N.style": Key(
        ("queries",), "keywords", AFTER_QUERIES, run="written", place=1
    ),
    "queries.generators.N.prompt": Key(
        ("queries",), "{passage} Why?", AFTER_QUERIES, run="written", place=1
    ),
    "queries.generators.N.examples": Key(
        ("queries",), [["a keeper", "who keeps"]], AFTER_QUERIES, run="written", place=1
    ),
    "queries.generators.N.passage_tokens": Key(("queries",), 8, AFTER_QUERIES, run="written"),
    "queries.generators.N.max_new_tokens": Key(("queries",), 4, AFTER_QUERIES, run="written"),
    "queries.generators.N.batch_size": Key(("queries",), 2, AFTER_QUERIES, run="written"),
    "queries.generators.N.temperature": Key(("queries",), 0.2, AFTER_QUERIES, run="written"),
    "queries.generators.N.top_k": Key(("queries",), 2, AFTER_QUERIES, run="written"),
    "queries.generators.N.top_p": Key(("queries",), 0.1, AFTER_QUERIES, run="written"),
    "queries.generators.N.precision": Key(
        ("queries",), "bf16", AFTER_QUERIES, run="written", place=1
    ),
    "queries.count": Key(("queries",), 20, AFTER_QUERIES),
    "queries.per_passage": Key(("queries",), 2, AFTER_QUERIES),
    "queries.shard_passages": Key(("queries",), 5, AFTER_QUERIES),
    # ── negatives
    "negatives.retrievers.N.kind": Key(
        ("negatives",), "bm25", run="other", place=2, missing=VALUES
    ),
    "negatives.retrievers.N.options": Key(("negatives",), {"delta": 1.0}, missing=PLUGIN),
    "negatives.retrievers.N.share": Key(("negatives",), 60, AFTER_NEGATIVES),
    "negatives.retrievers.N.model": Key(
        ("embeddings_other", "negatives"), "other", AFTER_NEGATIVES
    ),
    "negatives.retrievers.N.pooling": Key(
        ("embeddings_other", "negatives"), "cls", AFTER_NEGATIVES, run="other", place=2
    ),
    "negatives.retrievers.N.k1": Key(("negatives", "evaluation"), 0.1, ("scores",), place=1),
    "negatives.retrievers.N.b": Key(("negatives", "evaluation"), 1.0, ("scores",), place=1),
    "negatives.retrievers.N.language": Key(("negatives", "evaluation"), None, ("scores",), place=1),
    "negatives.retrievers.N.precision": Key(
        ("embeddings_other", "negatives"), "bf16", AFTER_NEGATIVES, run="other", place=2
    ),
    "negatives.candidates": Key(("negatives",), 5, AFTER_NEGATIVES),
    "negatives.max_positive_ratio": Key(("negatives",), 1.0, AFTER_NEGATIVES),
    "negatives.shard_queries": Key(("negatives",), 10, ("scores",)),
    "negatives.index.backend": Key(("negatives",), "faiss", ("scores",)),
    "negatives.index.options": Key(("negatives",), {"delta": 1.0}, missing=PLUGIN),
    "negatives.index.kind": Key(("negatives",), "flat"),
    "negatives.index.metric": Key(("negatives",), "cosine"),
    "negatives.index.factory": Key(("negatives",), "IVF8,Flat", AFTER_NEGATIVES, run="faiss"),
    "negatives.index.ef": Key(("negatives",), 1, AFTER_NEGATIVES, run="graphs"),
    "negatives.index.nprobe": Key(("negatives",), 3, AFTER_NEGATIVES, run="faiss"),
    "negatives.index.on_disk": Key(("negatives",), True, run="faiss"),
    "negatives.index.collection": Key(
        ("negatives",), "Second", given=_LIVE_NEGATIVES, missing=WEAVIATE
    ),
    "negatives.index.vector": Key(("negatives",), "v", given=_LIVE_NEGATIVES, missing=WEAVIATE),
    "negatives.index.id": Key(("negatives",), "uuid", given=_LIVE_NEGATIVES, missing=WEAVIATE),
    "negatives.index.tenant": Key(
        ("negatives",), ["acme"], given=_LIVE_NEGATIVES, missing=WEAVIATE
    ),
    # ── teacher
    "teacher.name": Key(("scores",), "second_teacher", AFTER_SCORES),
    "teacher.options": Key(("scores",), {"delta": 1.0}, missing=PLUGIN),
    "teacher.api": _of_reranker("tei"),
    "teacher.endpoint": _of_reranker("http://localhost:8001"),
    "teacher.key_variable": _of_reranker("OTHER_KEY", NONE),
    "teacher.dollars": Key(
        NONE,
        1.0,
        given=_RERANKER | {"teacher.dollars_per_1000_searches": 1.0},
        missing=SERVICE,
    ),
    "teacher.dollars_per_1000_searches": _of_reranker(1.0, NONE),
    "teacher.revision": Key(
        ("scores",), COMMIT[::-1], given={"teacher.name": "a/teacher"}, missing=HUB
    ),
    "teacher.backend": Key(("scores",), "torch"),
    "teacher.format": Key(("scores",), "chat", missing=VALUES),
    "teacher.instruction": Key(("scores",), "judge: ", AFTER_SCORES),
    # The account of how pairs are read names the label.
    "teacher.label": Key(("scores",), "0", ("triplets",)),
    "teacher.answers": Key(("scores",), ["yes", "no"], missing=VALUES),
    "teacher.max_length": Key(("scores",), 20, AFTER_SCORES),
    "teacher.precision": Key(("scores",), "bf16", AFTER_SCORES),
    "teacher.shard_pairs": Key(("scores",), 64, AFTER_SCORES),
    "teacher.student_weight": Key(("targets",), 0.3, CHOSEN),
    "teacher.scorers.N.kind": _of_scorer("bi_encoder", missing=VALUES),
    "teacher.scorers.N.name": Key(
        ("scores_teacher", "scores", "targets"), "second_teacher", run="mixed", missing=VALUES
    ),
    "teacher.scorers.N.options": _of_scorer({"delta": 1.0}, missing=PLUGIN),
    "teacher.scorers.N.weight": Key(("triplets", "targets"), 2.0, run="mixed", missing=VALUES),
    "teacher.scorers.N.api": _of_service("tei"),
    "teacher.scorers.N.endpoint": _of_service("http://localhost:8001"),
    "teacher.scorers.N.key_variable": _of_service("OTHER_KEY", NONE),
    "teacher.scorers.N.dollars": _of_service(1.0, NONE),
    "teacher.scorers.N.dollars_per_1000_searches": _of_service(1.0, NONE),
    "teacher.scorers.N.revision": _of_scorer(COMMIT[::-1], missing=HUB, **_HUB_SCORER),
    "teacher.scorers.N.backend": _of_scorer("torch"),
    "teacher.scorers.N.format": _of_scorer("chat", missing=VALUES),
    "teacher.scorers.N.instruction": _of_scorer("judge: ", MIXED),
    "teacher.scorers.N.label": _of_scorer("0", ("scores", "triplets")),
    "teacher.scorers.N.answers": _of_scorer(["yes", "no"], missing=VALUES),
    "teacher.scorers.N.max_length": _of_scorer(20, MIXED),
    "teacher.scorers.N.precision": _of_scorer("bf16", MIXED),
    "teacher.scorers.N.shard_pairs": _of_scorer(64, MIXED),
    "teacher.scorers.N.pooling": Key(
        ("embeddings_other", "scores_other"), "cls", MIXED, run="mixed", place=2
    ),
    "teacher.scorers.N.k1": _of_scorer(0.1, MIXED, place=1),
    "teacher.scorers.N.b": _of_scorer(1.0, MIXED, place=1),
    "teacher.scorers.N.language": _of_scorer(None, MIXED, place=1),
    # ── triplets
    "triplets.calibration": Key(("targets",), "none", CHOSEN),
    "triplets.negatives_per_query": Key(("model",), 3),
    "triplets.held_out": Key(("triplets",), 0.4, ("targets", *CHOSEN)),
    "triplets.filter_rank": Key(("triplets",), 5, ("targets", *CHOSEN)),
    "triplets.filter_percentile": Key(("triplets",), 40.0, ("targets", *CHOSEN)),
    "triplets.filter_max_matches": Key(("triplets",), 3, ("targets", *CHOSEN)),
    # ── loss
    "loss.kind": Key(("model",), "margin_mse"),
    "loss.options": Key(("model",), {"delta": 1.0}, missing=PLUGIN),
    "loss.temperature": Key(("model",), 5.0, run="loss"),
    "loss.teacher_temperature": Key(("model",), 5.0, run="loss"),
    "loss.info_nce": Key(("model",), 0.5),
    "loss.info_nce_temperature": Key(("model",), 1.0, run="loss"),
    "loss.false_negative_margin": Key(("model",), 0.9, run="loss"),
    "loss.matryoshka": Key(("model",), [8]),
    # ── model
    "model.name": Key(BASE, "second_student", ("scores", *AFTER_STUDENT)),
    "model.revision": Key(BASE, COMMIT, given={"model.name": "a/model"}, missing=HUB),
    # With as many negatives as either side would have by itself: those differ too.
    "model.train": Key(("model",), "query_encoder", given={"triplets.negatives_per_query": 3}),
    "model.passage_vectors": Key(
        ("embeddings",),
        "second_vectors.parquet",
        ("student", *AFTER_QUERIES),
        run="given",
    ),
    "model.api": Key(
        BASE,
        "cohere",
        given={"model.train": "query_adapter"},
        missing=COHERE,
    ),
    "model.dollars": Key(
        NONE,
        1.0,
        given={"model.train": "query_adapter", "model.api": "cohere"},
        missing=COHERE,
    ),
    "model.endpoint": Key(BASE, "http://localhost", given=_EMBEDDER, missing=SERVICE),
    "model.query_request": Key(BASE, {"a": 1}, given=_EMBEDDER, missing=SERVICE),
    "model.passage_request": Key(BASE, {"a": 1}, given=_EMBEDDER, missing=SERVICE),
    "model.key_variable": Key(NONE, "OTHER_KEY", given=_EMBEDDER, missing=SERVICE),
    "model.dollars_per_million_tokens": Key(NONE, 1.0, given=_EMBEDDER, missing=SERVICE),
    "model.adapter_rank": Key(("model",), 2, run="adapter"),
    "model.adapter_penalty": Key(("model",), 10.0, run="adapter"),
    "model.regression_passages": Key(("student",), 30, AFTER_QUERIES, run="given"),
    "model.pooling": Key(BASE, "cls", ("scores", *AFTER_STUDENT)),
    "model.similarity": Key(BASE, "dot", ("scores", *AFTER_STUDENT)),
    "model.query_prompt": Key(BASE, "query: ", ("scores", *AFTER_STUDENT)),
    "model.passage_prompt": Key(BASE, "passage: ", ("scores", *AFTER_STUDENT)),
    "model.max_length": Key(BASE, 8, ("scores", *AFTER_STUDENT)),
    # No query is as long: nothing comes out otherwise but the student.
    "model.query_max_length": Key(BASE, 40, AFTER_STUDENT),
    "model.precision": Key(BASE, "bf16", ("scores", *AFTER_STUDENT)),
    "model.dropout": Key(("model",), 0.5),
    "model.lora_rank": Key(("model",), 2),
    "model.lora_alpha": Key(("model",), 64, run="lora"),
    # ── training
    "training.num_train_epochs": Key(("model",), 2),
    "training.learning_rate": Key(("model",), 1e-2),
    "training.per_device_train_batch_size": Key(("model",), 4),
    "training.gradient_accumulation_steps": Key(("model",), 2),
    "training.lr_scheduler_type": Key(("model",), "constant"),
    "training.warmup_steps": Key(("model",), 0),
    "training.weight_decay": Key(("model",), 0.5),
    "training.bf16": Key(("model",), True),
    "training.logging_steps": Key(NONE, 1),
    "training.eval_strategy": Key(("model",), "steps", missing=VALUES),
    "training.save_strategy": Key(("model",), "steps", missing=VALUES),
    "training.save_total_limit": Key(NONE, 1),
    "training.metric_for_best_model": Key(("model",), "map@100"),
    "training.dataloader_num_workers": Key(NONE, 1),
    "training.ddp_timeout": Key(NONE, 60),
    # ── index
    "index.backend": Key(CHOSEN, "faiss"),
    "index.options": Key(CHOSEN, {"delta": 1.0}, missing=PLUGIN),
    "index.kind": Key(CHOSEN, "flat"),
    "index.metric": Key(CHOSEN, "cosine"),
    "index.factory": Key(CHOSEN, "IVF8,Flat", run="faiss"),
    "index.ef": Key(CHOSEN, 1, run="graphs"),
    "index.nprobe": Key(CHOSEN, 3, run="faiss"),
    "index.on_disk": Key(CHOSEN, True, run="faiss"),
    "index.collection": Key(CHOSEN, "Second", given=_LIVE, missing=WEAVIATE),
    "index.vector": Key(CHOSEN, "v", given=_LIVE, missing=WEAVIATE),
    "index.id": Key(CHOSEN, "uuid", given=_LIVE, missing=WEAVIATE),
    "index.tenant": Key(CHOSEN, ["acme"], given=_LIVE, missing=WEAVIATE),
    "index.alias": Key(("evaluation",), "Second"),
    # ── evaluation
    "evaluation.cutoffs": Key(("evaluation",), [1, 10, 100]),
    "evaluation.metrics": Key(("evaluation",), ["ndcg@3"]),
    "evaluation.primary_metric": Key(("evaluation",), "ndcg@5"),
    "evaluation.passages": Key(("model",), 10),
    "evaluation.early_stopping_patience": Key(("model",), 1),
    "evaluation.interpolation_steps": Key(("model",), 2),
    "evaluation.leave_out": Key(("evaluation",), "none"),
    "evaluation.unanswerable": Key(("evaluation",), "zero"),
    "evaluation.gate": Key(CHOSEN, "test"),
    "evaluation.resamples": Key(NONE, 100),
    "evaluation.systems.N.kind": Key(NONE, "bm25"),
    "evaluation.systems.N.options": Key(NONE, {"delta": 1.0}),
    "evaluation.systems.N.name": Key(NONE, "second"),
    "evaluation.systems.N.top_k": Key(NONE, 7),
    "evaluation.systems.N.truncate_dim": Key(NONE, 8),
    "evaluation.systems.N.model": Key(NONE, "other"),
    "evaluation.systems.N.api": Key(NONE, "cohere"),
    "evaluation.systems.N.endpoint": Key(NONE, "http://localhost"),
    "evaluation.systems.N.key_variable": Key(NONE, "OTHER_KEY"),
    "evaluation.systems.N.query_prompt": Key(NONE, "query: "),
    "evaluation.systems.N.passage_prompt": Key(NONE, "passage: "),
    "evaluation.systems.N.query_request": Key(NONE, {"a": 1}),
    "evaluation.systems.N.passage_request": Key(NONE, {"a": 1}),
    "evaluation.systems.N.dollars_per_million_tokens": Key(NONE, 1.0),
    "evaluation.systems.N.dollars_per_1000_searches": Key(NONE, 1.0),
    "evaluation.systems.N.dollars": Key(NONE, 1.0),
    "evaluation.systems.N.revision": Key(NONE, COMMIT),
    "evaluation.systems.N.pooling": Key(NONE, "cls"),
    "evaluation.systems.N.of": Key(NONE, ["base", "bm25"]),
    "evaluation.systems.N.weight": Key(NONE, 0.5),
    "evaluation.systems.N.depth": Key(NONE, 7),
    "evaluation.systems.N.teacher": Key(NONE, "second_teacher"),
    "evaluation.systems.N.passages": Key(NONE, "vectors.parquet"),
    "evaluation.systems.N.queries": Key(NONE, "vectors.parquet"),
    "evaluation.systems.N.similarity": Key(NONE, "cosine"),
    "evaluation.systems.N.k1": Key(NONE, 0.1),
    "evaluation.systems.N.b": Key(NONE, 1.0),
    "evaluation.systems.N.language": Key(NONE, None),
    "evaluation.systems.N.dollars_per_1000_queries": Key(NONE, 1.0),
    "evaluation.systems.N.dollars_per_million_passages": Key(NONE, 1.0),
    "evaluation.indexes.N.backend": Key(NONE, "faiss"),
    "evaluation.indexes.N.options": Key(NONE, {"delta": 1.0}),
    "evaluation.indexes.N.kind": Key(NONE, "flat"),
    "evaluation.indexes.N.metric": Key(NONE, "cosine"),
    "evaluation.indexes.N.factory": Key(NONE, "IVF4,Flat"),
    "evaluation.indexes.N.ef": Key(NONE, 4),
    "evaluation.indexes.N.nprobe": Key(NONE, 3),
    "evaluation.indexes.N.on_disk": Key(NONE, True),
    "evaluation.indexes.N.collection": Key(NONE, "Live"),
    "evaluation.indexes.N.vector": Key(NONE, "v"),
    "evaluation.indexes.N.id": Key(NONE, "uuid"),
    "evaluation.indexes.N.tenant": Key(NONE, ["acme"]),
    "evaluation.indexes.N.name": Key(NONE, "second"),
    "evaluation.baseline": Key(NONE, "base"),
    "evaluation.latency_queries": Key(NONE, 7),
    "evaluation.latency_batch_size": Key(NONE, 7),
    "evaluation.latency_budget_seconds": Key(NONE, 7.0),
    "evaluation.out_of_domain_path": Key(NONE, "second_beir"),
    "evaluation.out_of_domain_split": Key(NONE, "dev"),
    # ── the rest
    "ingest.collection": Key(NONE, "Second"),
    "ingest.vector": Key(NONE, "v"),
    "ingest.kind": Key(NONE, "flat"),
    "ingest.metric": Key(NONE, "cosine"),
    "checkpoints.minutes": Key(NONE, 1.0),
    "tracking.report_to": Key(NONE, ["tensorboard"]),
    "tracking.project": Key(NONE, "second"),
    "chat.model": Key(NONE, "babbler"),
    "chat.gguf_file": Key(NONE, "a.gguf"),
    "chat.endpoint": Key(NONE, "https://example.org/v1"),
    "chat.system": Key(NONE, "base"),
    "chat.passages": Key(NONE, 2),
    "chat.threshold": Key(NONE, 0.5),
    "chat.passage_characters": Key(NONE, 100),
    "chat.max_new_tokens": Key(NONE, 7),
    "chat.temperature": Key(NONE, 0.5),
}

#: Lists that a recipe leaves empty, with what stands at their places when a key of it is changed.
LISTS: dict[str, list[dict[str, Any]]] = {
    "evaluation.systems": [{"kind": "base"}, {"kind": "bm25"}],
    "evaluation.indexes": [{"backend": "exact"}],
}


def placed(name: str, place: int = 0) -> str:
    """A key's name with its place in a list."""
    return name.replace(".N.", f".{place}.")


#: Other names of TrainingArguments: one that weights depend on, and some that say where they go.
TRAINED = {"training.adam_beta1": 0.5}
UNTRAINED = {
    "training.hub_private_repo": True,
    "training.hub_strategy": "end",
    "training.disable_tqdm": True,
}

# Values that cases, beside those of single keys, are about.
NOT_JUDGED = {"corpus.test_split": "none"}
#: With it the passages of `words` are held out as with the run's own seed.
SAME_DRAW = {"seed": 191}
ANOTHER_ORDER = {"teacher.scorers": RUNS["mixed"][1]["teacher.scorers"][::-1]}
UNIT_LENGTH = {"model.similarity": "cosine"}
LIVE_INDEX = {"index.backend": "weaviate", "index.collection": "Live"}
