"""A service that searches what the record on the server names, all the time.

    article_service.py READS FOLDER

searches until FOLDER/stop is there, and writes a line of JSON for every answer to READS.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import weaviate
from weaviate.classes.init import Auth
from weaviate.exceptions import WeaviateQueryError
from weaviate.util import generate_uuid5

#: Results of one search, and how many more are asked for, as Tercet's own clients do.
K, MORE = 10, 16


@contextmanager
def reading(folder: Path, name: str, vectors: dict[str, np.ndarray]) -> Iterator[list[Any]]:
    """A service in a process of its own while the block runs; then its answers are in the list.

    `vectors` are those of its queries by the digest of the model that made them; "" is for a name
    that nothing is recorded about.
    """
    folder.mkdir()
    for digest, rows in vectors.items():
        np.save(folder / f"queries-{digest}.npy", rows)
    (folder / "name").write_text(name)
    log = folder / "reads.jsonl"
    service = subprocess.Popen([sys.executable, __file__, str(log), str(folder)], env=os.environ)
    answers: list[Any] = []
    try:
        while not log.exists() or not log.stat().st_size:
            assert service.poll() is None
            time.sleep(0.05)
        yield answers
        time.sleep(0.5)  # it goes on after the last change
    finally:
        (folder / "stop").touch()
        service.wait(60)
    answers += [json.loads(line) for line in log.read_text().splitlines()]


@contextmanager
def suppress_unmade() -> Iterator[None]:
    """Let pass that the records' collection is being made: nothing is deployed yet."""
    try:
        yield
    except WeaviateQueryError as error:
        if "non-existing index" not in str(error):
            raise


def _serve(log: Path, folder: Path) -> None:
    rest, call = (urlsplit(os.environ[f"WEAVIATE_{kind}URL"]) for kind in ("", "GRPC_"))
    client = weaviate.connect_to_custom(
        http_host=rest.hostname,
        http_port=rest.port,
        http_secure=False,
        grpc_host=call.hostname,
        grpc_port=call.port,
        grpc_secure=False,
        auth_credentials=Auth.api_key(os.environ["WEAVIATE_API_KEY"]),
        skip_init_checks=True,
    )
    name = (folder / "name").read_text()
    vectors = {file.stem.partition("-")[2]: np.load(file) for file in folder.glob("queries-*.npy")}
    count = len(vectors[""])
    records = client.collections.use("TercetDeployments")
    number = 0
    with client, log.open("w") as out:
        while not (folder / "stop").exists():
            answer: dict[str, Any] = {"query": number % count}
            try:
                found = None
                if client.collections.exists("TercetDeployments"):
                    with suppress_unmade():
                        found = records.query.fetch_object_by_id(generate_uuid5(name))
                served: Any = found.properties if found else {}
                place = served.get("collection") or name, served.get("vector_name") or "theirs"
                vector = vectors[served.get("model") or ""][number % count]
                hits = client.collections.use(place[0]).query.near_vector(
                    vector, target_vector=place[1], limit=K + MORE, return_properties=["key"]
                )
                keys = [hit.properties["key"] for hit in hits.objects][:K]
                answer |= {"place": place, "keys": keys}
            except Exception as error:
                answer |= {"error": f"{type(error).__name__}: {error}"}
            out.write(json.dumps(answer) + "\n")
            out.flush()
            number += 1


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), Path(sys.argv[2]))
