"""An adapter over `/v1/embeddings`: are its vectors the model's, and what does a query gain?

    python benchmarks/endpoint.py MODEL FOLDER [FOLDER ...] [--endpoint URL] [--queries 1000]

MODEL is a bi-encoder's folder. The service at URL is asked for the vectors of each collection, in
BEIR's layout; without one a loopback server over MODEL stands in for it, and the table says so. The
vectors are compared with MODEL's own. A query adapter is then trained over them with the passages'
vectors frozen. The guard's choice and the adapter as trained are measured on the test queries,
which choose nothing. Further options are the recipe's, for all runs. Writes `endpoint.json` under
`runs/endpoint/`.
"""

from __future__ import annotations

import argparse
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.table import Table

from tercet.config.loading import load_recipe
from tercet.core.console import console
from tercet.core.files import write_json
from tercet.modeling import BiEncoder
from tercet.modeling.encoders.openai import OpenAIEncoder
from tercet.modeling.training.model_selection import read_mixture
from tercet.pipeline.components import Components
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.significance import paired_bootstrap

NDCG = "ndcg@10"


class Handler(BaseHTTPRequestHandler):
    """`/v1/embeddings` of a model: texts are read as passages, or as queries if it is said."""

    protocol_version = "HTTP/1.1"
    model: ClassVar[BiEncoder]
    lock = threading.Lock()

    def do_GET(self) -> None:  # noqa: N802
        """The model's name."""
        self._send({"data": [{"id": self.model.name}]})

    def do_POST(self) -> None:  # noqa: N802
        """Vectors of texts."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        kind = "query" if body.get("input_type") == "query" else "passage"
        with self.lock:
            rows = self.model.encode(body["input"], kind)
        data = [{"index": i, "embedding": row} for i, row in enumerate(rows.tolist())]
        self._send({"data": data, "model": body["model"]})

    def _send(self, content: Any) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing: the benchmark's output is its own."""


@contextmanager
def stand_in(model: BiEncoder) -> Iterator[str]:
    """The address of a loopback server over a model."""
    handler = type("ModelHandler", (Handler,), {"model": model})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()


def measured(
    folder: Path, model: BiEncoder, endpoint: str, args: argparse.Namespace, more: list[str]
) -> dict[str, Any]:
    """One collection: likeness of the vectors, and the gains with the guard on and off."""
    requests = {"query_request": {"input_type": "query"}}
    requests["passage_request"] = {"input_type": "passage"}
    encoder = OpenAIEncoder(args.name, endpoint=endpoint, concurrency=1, **requests)
    source = Components(load_recipe("recipes/beir.yaml", [f"--corpus.path={folder}"])).source
    passages = [passage for _, passage in source.passages() if passage.contents]
    queries = [query.text for _, query in source.queries()]
    texts = [passage.contents for passage in passages]
    rows = encoder.encode_passages(texts, show_progress=f"embedding {folder.name}")
    likeness = [
        np.sum(theirs * ours, axis=1)
        for theirs, ours in (
            (rows, model.encode_passages(texts)),
            (encoder.encode_queries(queries), model.encode_queries(queries)),
        )
    ]
    path = args.runs / f"{folder.name}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array(rows.tolist(), pa.list_(pa.float32()))
    pq.write_table(pa.table({"id": [p.id for p in passages], "vector": column}), path)
    options = {
        "name": f"{folder.name}-adapter",
        "runs_dir": args.runs,
        "corpus.path": folder,
        "queries.count": args.queries,
        "model.name": args.name,
        "model.api": "openai",
        "model.endpoint": endpoint,
        "model.query_request": "{input_type: query}",
        "model.passage_request": "{input_type: passage}",
        "model.train": "query_adapter",
        "model.passage_vectors": path,
    }
    given = [f"--{name}={value}" for name, value in options.items()]
    pipeline = Pipeline(load_recipe("recipes/beir.yaml", [*given, *more]))
    pipeline.check()
    facts = pipeline.model.facts

    def figures(weight: float) -> np.ndarray:
        return np.array([*read_mixture(pipeline.model, weight, "test", NDCG).values()])

    before = figures(0.0)
    return {
        "least cosine": float(min(each.min() for each in likeness)),
        "mean cosine": float(np.concatenate(likeness).mean()),
        "zero_shot": float(before.mean()),
        "weight": facts["best_weight"],
        "writer": ", ".join(dict.fromkeys(g.kind for g in pipeline.recipe.queries.generators)),
        "teacher": Path(pipeline.recipe.teacher.name).name,
        "guard on": asdict(paired_bootstrap(before, figures(facts["best_weight"]), seed=13)),
        "guard off": asdict(paired_bootstrap(before, figures(1.0), seed=13)),
    }


def show(found: dict[str, Any], service: str) -> None:
    """A row for each collection."""
    table = Table(title=f"{NDCG} of an adapter over {service}", title_justify="left")
    for name in ("collection", "cosine", "least", "zero-shot", "ships", "guard on", "guard off"):
        table.add_column(name, justify="left" if name == "collection" else "right")
    for name, one in found.items():
        gains = [
            f"{g['difference']:+.4f} [{g['low']:+.4f}, {g['high']:+.4f}]"
            for g in (one["guard on"], one["guard off"])
        ]
        ships = f"{one['weight']:g}" if one["weight"] else "as it came"
        numbers = (f"{one[key]:.4f}" for key in ("mean cosine", "least cosine", "zero_shot"))
        table.add_row(name, *numbers, ships, *gains)
    console.print(table)


def main() -> None:
    """Every collection, one after another."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    parser.add_argument("--endpoint", help="address of a service; unset: a stand-in on loopback")
    parser.add_argument("--name", default="multilingual-e5-small", help="the service's model name")
    parser.add_argument("--queries", type=int, default=1_000, help="synthetic queries")
    parser.add_argument("--runs", type=Path, default=Path("runs/endpoint"))
    args, more = parser.parse_known_args()
    os.environ.setdefault("NO_PROXY", "127.0.0.1")
    model = BiEncoder.from_pretrained(args.model, precision="fp32")
    found: dict[str, Any] = {}
    with nullcontext(args.endpoint) if args.endpoint else stand_in(model) as endpoint:
        service = args.endpoint or f"a stand-in on loopback over {args.model.name}"
        for folder in args.folders:
            found[folder.name] = measured(folder, model, endpoint, args, more)
            write_json(args.runs / "endpoint.json", {"service": service, "collections": found})
            show(found, service)


if __name__ == "__main__":
    main()
