"""The model card of a query encoder: what it is of, and which vectors it asks."""

from __future__ import annotations

import json
from pathlib import Path

from tercet.modeling.space import Space


def query_card(space: Space, base: str, *, adapter: bool, api: str | None) -> str:
    """A README.md for the Hub; `base` is the model that queries began with, an `api`'s or not."""
    learnt = "a low-rank adapter of the query vectors of" if adapter else "the query side of"
    front = ["---", "library_name: sentence-transformers", "pipeline_tag: feature-extraction"]
    front += ["tags:", "- tercet", "- retrieval", "- query-encoder"]
    if Path(base).exists():  # a path is this machine's affair
        base = Path(base).name
    elif api is None:
        front.append(f"base_model: {json.dumps(base)}")
    where = f"collection {space.collection}" if space.collection else space.place
    rows = {
        "passages' vectors": space.place,
        "passages": f"{space.passages:,}",
        "dimensions": str(space.vectors.shape[1]),
        "distance": space.similarity,
    }
    rows |= {"collection": space.collection} if space.collection else {}
    rows |= {"named vector": space.vector} if space.vector else {}
    rows |= {"ids are in": space.id} if space.id else {}
    lines = [
        *(*front, "---", ""),
        f"# Queries for {where}",
        "",
        f"This is {learnt} `{base}`, trained with Tercet on a cross-encoder's margins. It encodes",
        "queries, and no passages: those keep the vectors that they have.",
        "",
        "| it belongs to | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows.items()),
        "",
        "`space.safetensors` holds a sample of those vectors: another collection is refused.",
        "",
        "```python",
        "from tercet.live_retriever import live_retriever",
        "",
        f'retriever = live_retriever("PATH OR NAME", "{space.collection or "COLLECTION"}")',
        'retriever.search(["a question"], 10)',
        "```",
    ]
    if api is None:
        lines += [
            "",
            "Its vectors of queries are also `SentenceTransformer(PATH).encode(queries)`, with the",
            "prompt named `query` where it has one.",
        ]
    return "\n".join(lines) + "\n"
