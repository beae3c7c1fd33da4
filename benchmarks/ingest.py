"""Objects a second into a live Weaviate, beside the plain client's own loop over the same file.

    python benchmarks/ingest.py [PASSAGES]

The passages have 768-dimensional vectors, as Cohere's corpora of 2022, in a Parquet file. Each side
reads the file and writes into a flat index, in a process of its own; the plain loop is the one that
the client's documentation shows. Needs a server (`make weaviate`).
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from beside import gigaflops
from rich.table import Table

from tercet.core.console import console
from tercet.retrieval.weaviate.client import WeaviateServer

PASSAGES, WIDTH, ROUNDS = 200_000, 768, 2
NAMES = {"plain client": "Tercet_bench_plain", "tercet": "Tercet_bench_given"}
PLAIN = """
import sys
import pyarrow.parquet as pq
from weaviate.classes.config import Configure, DataType, Property
from weaviate.util import generate_uuid5
from tercet.retrieval.weaviate.client import WeaviateServer

client = WeaviateServer.connect().client
collection = client.collections.create(
    sys.argv[2],
    properties=[Property(name=n, data_type=DataType.TEXT) for n in ("docid", "title", "text")],
    vector_config=Configure.Vectors.self_provided(
        name="cohere", vector_index_config=Configure.VectorIndex.flat()
    ),
)
with collection.batch.fixed_size(256, 2) as batch:
    for part in pq.ParquetFile(sys.argv[1]).iter_batches(1024):
        for row in part.to_pylist():
            vector = row.pop("emb")
            batch.add_object(row, uuid=generate_uuid5(row["docid"]), vector={"cohere": vector})
assert not collection.batch.failed_objects
"""
MEMORY = "\nimport resource\nprint('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"


def main() -> None:
    """Write the file, then take turns."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else PASSAGES
    seconds: dict[str, list[float]] = {name: [] for name in NAMES}
    peaks: dict[str, int] = {}
    gemm = []
    with tempfile.TemporaryDirectory() as folder:
        file = write(Path(folder) / "corpus.parquet", count)
        for turn in range(ROUNDS):
            for name, collection in NAMES.items():
                drop(collection)
                gemm.append(gigaflops())
                start = time.perf_counter()
                peaks[name] = run(name, file, Path(folder), turn)
                seconds[name].append(time.perf_counter() - start)
                held = total(collection)
                if held != count:
                    sys.exit(f"{name} wrote {held:,} of {count:,}")
                drop(collection)
    table = Table("", "objects/s", "x plain client", "peak MB", title=f"{count:,} x {WIDTH}")
    plain = min(seconds["plain client"])
    for name, taken in seconds.items():
        best = min(taken)
        table.add_row(
            name, f"{count / best:,.0f}", f"{plain / best:.2f}", f"{peaks[name] / 1024:,.0f}"
        )
    console.print(table)
    console.print(f"float32 matrix product: {min(gemm):,.0f} to {max(gemm):,.0f} GFLOP/s")


def write(file: Path, count: int) -> Path:
    """The corpus, a block at a time."""
    random, writer = np.random.default_rng(13), None
    for start in range(0, count, 20_000):
        rows = range(start, min(start + 20_000, count))
        vectors = random.standard_normal((len(rows), WIDTH), dtype=np.float32)
        table = pa.table(
            {
                "docid": [f"{i}#0" for i in rows],
                "title": [f"Title {i}" for i in rows],
                "text": [f"This is what passage {i} says. " * 10 for i in rows],
                "emb": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), WIDTH).cast(
                    pa.list_(pa.float32())
                ),
            }
        )
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table, row_group_size=2_000)
    assert writer
    writer.close()
    return file


def run(name: str, file: Path, folder: Path, turn: int) -> int:
    """One side in a process of its own; its peak memory in kB."""
    if name == "tercet":
        recipe = folder / "r.yaml"
        recipe.write_text(
            f"name: given-{turn}\nruns_dir: {folder}/runs\n"
            f"corpus:\n  source: tables\n  passages: {{path: {file}, vector: emb}}\n"
            f"ingest: {{collection: {NAMES[name]}, vector: cohere, kind: flat}}\n"
        )
        code = (
            "import sys\nfrom tercet.config.loading import load_recipe\n"
            "from tercet.pipeline.ingest import ingest\n"
            f"ingest(load_recipe(sys.argv[1]))\n{MEMORY}"
        )
        command = [sys.executable, "-c", code, str(recipe)]
    else:
        command = [sys.executable, "-c", PLAIN + MEMORY, str(file), NAMES[name]]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return int(re.findall(r"peak (\d+)", done.stdout)[0])


def drop(collection: str) -> None:
    """Whatever was written before goes."""
    server = WeaviateServer.connect()
    server.client.collections.delete(collection)
    server.close()


def total(collection: str) -> int:
    """Objects that the server counts."""
    server = WeaviateServer.connect()
    reply = server.client.collections.use(collection).aggregate.over_all(total_count=True)
    server.close()
    return int(reply.total_count or 0)


if __name__ == "__main__":
    main()
