# /// script
# requires-python = ">=3.11"
# dependencies = [
#   "huggingface_hub>=2,<3",
#   "langchain-core>=1,<2",
#   "numpy>=2",
#   "pydantic>=2",
#   "safetensors>=0.8",
#   "torch>=2.10",
#   "transformers>=5.20,<6",
#   "weaviate-client>=4.23,<5",  # only: weaviate
# ]
# ///
"""Dense search with the model of a run, as a LangChain retriever.

    from retriever import TercetRetriever

    retriever = TercetRetriever(k=5)
    documents = retriever.invoke("a question")  # or await retriever.ainvoke("a question")

A document has the passage's text; its metadata has the passage's id, title and score (larger is
better). Queries are encoded in float32; keywords are not used.

    python retriever.py "a question" [--k 5]
    python retriever.py --self-test

The self-test searches with the queries in `EXPECTED`, compares passages and scores with those that
the run found, and exits with code 1 if they differ.
"""

import argparse
import asyncio
import hashlib  # only: weaviate
import json
import logging  # only: weaviate
import os  # only: weaviate
import sys
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple
from urllib.parse import SplitResult, urlsplit  # only: weaviate

import numpy as np
import torch
import transformers
import weaviate  # only: weaviate
from huggingface_hub import snapshot_download
from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ConfigDict, Field, PrivateAttr
from safetensors import safe_open  # only: space
from safetensors.torch import load_file
from transformers import AutoTokenizer
from weaviate.classes.init import AdditionalConfig, Auth, Timeout  # only: weaviate
from weaviate.classes.query import Filter, MetadataQuery  # only: weaviate

#: Name of the run.
RUN = "example"
#: The model's folder ("./": beside this file), or its name on the Hub and the revision there.
MODEL = "runs/example/model"
REVISION: str | None = None
#: Prefix of queries, whether both are lower-cased, and the maximum length in tokens.
QUERY_PROMPT = ""
LOWER_CASE = False
MAX_LENGTH = 512
#: The transformers class that loads the model, and whether it is given token types.
MODEL_CLASS = "AutoModel"
TOKEN_TYPES = False
#: Poolings of token vectors that are joined, and how many of a query's first tokens they leave out.
POOLING = ["mean"]
SKIPPED = 0
#: The layers after pooling: kind, the model's subfolder, activation of torch.nn, residual.
LAYERS: list[tuple[str, str, str, bool]] = []
#: The first dimensions that are kept; None: all.
DIMENSIONS: int | None = None
#: Score: "cosine" (vectors have unit length) or "dot".
SIMILARITY = "cosine"
#: The folder of passages beside this file; None if the collection has their texts.
PASSAGES: str | None = "retriever.passages"
#: Default number of passages per query.
K = 10
# region space
#: The folder that has a sample of the vectors to be searched: "model" or "passages".
SPACE = "model"
# endregion
# region weaviate
#: The collection or its alias; its vector, and whether queries must name the vector.
COLLECTION = "Example"
VECTOR = "default"
VECTOR_IS_NAMED = True
#: The property with passage ids and whether it is numeric; None: ids are the objects' UUIDs.
ID_PROPERTY: str | None = "passage_id"
ID_IS_NUMBER = False
#: The properties with texts and titles, if the collection has them.
TEXT_PROPERTY: str | None = None
TITLE_PROPERTY: str | None = None
#: The server's records of what was deployed under a name, for which model.
DEPLOYMENTS = "TercetDeployments"
#: The collection's distance ("dot" or "cosine"), and the largest result of one query.
DISTANCE = "dot"
MOST = 10_000
# endregion


class Hit(NamedTuple):
    """A found passage."""

    id: str
    score: float
    title: str
    text: str


class QueryEncoder:
    """Encodes queries with the run's model."""

    def __init__(self, model: str, revision: str | None, device: str | None) -> None:
        """`device` None uses a GPU if available. Raises FileNotFoundError without a model."""
        self.folder = model_folder(model, revision)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self._tokenizer: Any = AutoTokenizer.from_pretrained(self.folder)
        loaded: Any = getattr(transformers, MODEL_CLASS).from_pretrained(
            self.folder, dtype=torch.float32, use_safetensors=True
        )
        self._model = loaded.eval().to(self._device)
        self._layers: list[dict[str, torch.Tensor]] = [
            {} if kind == "Normalize" else self._weights(place) for kind, place, _, _ in LAYERS
        ]
        # The tokenizer stores truncation settings in itself: threads must not interleave.
        self._lock = Lock()

    @torch.inference_mode()
    def encode(self, query: str) -> np.ndarray:
        """Encode a query: float32 [dimension]. Raises ValueError for a zero or infinite vector."""
        text = QUERY_PROMPT + query
        with self._lock:
            inputs = self._tokenizer(
                text.lower() if LOWER_CASE else text,
                truncation=True,
                max_length=MAX_LENGTH,
                return_token_type_ids=TOKEN_TYPES,
                return_tensors="pt",
            )
        states = self._model(**inputs.to(self._device)).last_hidden_state[0].float()
        vector = torch.cat([pooled(states, SKIPPED, mode) for mode in POOLING])
        for layer, weights in zip(LAYERS, self._layers, strict=True):
            vector = applied(layer, weights, vector)
        vector = vector[:DIMENSIONS]
        if SIMILARITY == "cosine":
            vector = torch.nn.functional.normalize(vector, dim=0)
        found: np.ndarray = vector.cpu().numpy()
        if not np.isfinite(found).all() or not found.any():
            raise ValueError(f"the model's vector of {query[:60]!r} is zero or not finite")
        return found

    def _weights(self, place: str) -> dict[str, torch.Tensor]:
        weights = load_file(self.folder / place / "model.safetensors", device=self._device)
        return {name: value.float() for name, value in weights.items()}


def pooled(states: torch.Tensor, skipped: int, mode: str) -> torch.Tensor:
    """Pool a query's token states [tokens, hidden] without the first `skipped`: [hidden]."""
    kept = states[skipped:]
    if mode == "weightedmean":
        weights = torch.arange(1, len(states) + 1, device=states.device)[skipped:, None]
        return (kept * weights).sum(dim=0) / weights.sum()
    ways = {
        "cls": lambda: kept[0],
        "max": lambda: kept.amax(dim=0),
        "mean": lambda: kept.mean(dim=0),
        "mean_sqrt_len_tokens": lambda: kept.sum(dim=0) / len(kept) ** 0.5,
        "lasttoken": lambda: kept[-1],
    }
    return ways[mode]()


def applied(
    layer: tuple[str, str, str, bool], weights: dict[str, torch.Tensor], vector: torch.Tensor
) -> torch.Tensor:
    """Apply a layer with these weights to a vector."""
    kind, _, activation, residual = layer
    functions = torch.nn.functional
    if kind == "Normalize":
        return functions.normalize(vector, dim=0)
    if kind == "LayerNorm":
        norm = weights["norm.weight"], weights["norm.bias"]
        return functions.layer_norm(vector, vector.shape, *norm)
    found = functions.linear(vector, weights["linear.weight"], weights.get("linear.bias"))
    found = getattr(torch.nn, activation)()(found)
    if not residual:
        return found
    added = weights.get("residual.weight")
    return found + (vector if added is None else functions.linear(vector, added))


def model_folder(model: str, revision: str | None) -> Path:
    """The folder of a local model or of a Hub model, downloaded if needed (safetensors only)."""
    path = Path(model).expanduser()
    if path.is_dir():
        return path
    if path.is_absolute() or model.startswith(".") or model.count("/") > 1:
        raise FileNotFoundError(f"there is no model in {model}: give TercetRetriever(model=...)")
    files = ["*.json", "*.txt", "*.model", "*.safetensors"]
    return Path(
        snapshot_download(
            model, revision=revision, allow_patterns=files, ignore_patterns=["checkpoint-*/*"]
        )
    )


class PassageFiles:
    """Passages sorted by id, read from disk on access.

    `passages.jsonl` has one per line; `ends.npy`, int64 [passages], the byte offset of its end.
    """

    def __init__(self, folder: Path) -> None:
        """Raises FileNotFoundError if the folder does not exist."""
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} does not exist: it belongs beside {Path(__file__)}")
        self._bytes = np.memmap(folder / "passages.jsonl", np.uint8, "r")
        self._ends = np.load(folder / "ends.npy", mmap_mode="r")

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, row: int) -> dict[str, str]:
        """The passage of a row: its id, title and text."""
        start = int(self._ends[row - 1]) if row else 0
        passage: dict[str, str] = json.loads(self._bytes[start : int(self._ends[row])].tobytes())
        return passage

    def row(self, id: str) -> int | None:
        """The row of a passage, or None."""
        row = bisect_left(range(len(self)), id, key=lambda row: self[row]["id"])
        return row if row < len(self) and self[row]["id"] == id else None


# region exact
class ExactIndex:
    """Compares a query with the vectors of all passages in a memory-mapped file.

    `vectors.npy` is float32 [passages, dimension], in the order of the passages.
    """

    _block = 8_192  # vectors compared at a time

    def __init__(self, folder: Path) -> None:
        """Read the passages and the lengths of all vectors."""
        self.passages = PassageFiles(folder)
        self._vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        if len(self._vectors) != len(self.passages):
            raise ValueError(
                f"{folder} has different numbers of vectors and passages: export again"
            )
        blocks = range(0, len(self._vectors), self._block)
        lengths = [np.linalg.norm(self._vectors[i : i + self._block], axis=1) for i in blocks]
        self._longest = max(float(each.max()) for each in lengths)

    def search(self, vector: np.ndarray, k: int) -> list[Hit]:
        """The k best passages for a query, float32 [dimension]; ties: the larger id first."""
        # Twice the error bound of float32 sums: no passage of the true top k is dropped.
        error = 2 * len(vector) * float(np.finfo(np.float32).eps)
        error *= self._longest * float(np.linalg.norm(vector))
        rows, scores = np.empty(0, np.int64), np.empty(0, np.float32)
        for start in range(0, len(self._vectors), self._block):
            block = self._vectors[start : start + self._block]
            rows = np.concatenate([rows, np.arange(start, start + len(block))])
            scores = np.concatenate([scores, block @ vector])
            if len(scores) > k:
                keep = scores >= np.partition(scores, -k)[-k] - error
                rows, scores = rows[keep], scores[keep]
        exact = np.einsum("nd,d->n", self._vectors[rows], vector, dtype=np.float64)
        best = np.lexsort((rows, exact.astype(np.float32)))[::-1][:k]
        return [Hit(score=float(np.float32(exact[i])), **self.passages[rows[i]]) for i in best]

    async def asearch(self, vector: np.ndarray, k: int) -> list[Hit]:
        """Like `search`, in a thread."""
        return await asyncio.to_thread(self.search, vector, k)

    # region space
    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of existing passages, float32 [dimension], by id."""
        rows = {id: self.passages.row(id) for id in ids}
        return {id: self._vectors[row] for id, row in rows.items() if row is not None}

    # endregion
    def close(self) -> None:
        """Do nothing: the files are closed with the object."""

    async def aclose(self) -> None:
        """Like `close`."""


# endregion
# region weaviate
class WeaviateIndex:
    """A collection on a Weaviate server, searched by vector.

    The environment has the server's address: WEAVIATE_URL (default http://127.0.0.1:8080),
    WEAVIATE_GRPC_URL (default port 50051 of the same host) and WEAVIATE_API_KEY.
    """

    _ties = 16  # more than k are requested, so that ties at the cutoff are ordered by id

    def __init__(self, collection: str, folder: Path | None) -> None:
        """`folder` has the texts if the collection has not.

        Raises ConnectionError if no server answers.
        """
        self.collection, self.vector = collection, VECTOR if VECTOR_IS_NAMED else None
        self.distance = DISTANCE
        self._passages = None if folder is None else PassageFiles(folder)
        address = _address()
        try:
            self._client = weaviate.connect_to_custom(**address)
        except (
            weaviate.exceptions.WeaviateConnectionError,
            weaviate.exceptions.WeaviateStartUpError,
        ) as error:
            place = f"{address['http_host']}:{address['http_port']}"
            raise ConnectionError(f"no Weaviate at {place}: set WEAVIATE_URL") from error
        # An asynchronous client can only be used in the event loop that opened it.
        self._async: dict[asyncio.AbstractEventLoop, weaviate.WeaviateAsyncClient] = {}
        self._locks: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    def follow(self, model: Path) -> None:
        """Search what the server records as deployed under the collection's name, if anything is.

        Raises ValueError if that was deployed for another model than the one in this folder.
        """
        collections = self._client.collections
        if not collections.exists(DEPLOYMENTS):
            return
        for stored in collections.use(DEPLOYMENTS).iterator():
            record: Any = stored.properties
            if self.collection not in (record["served"], record["alias"]):
                continue
            if not record["collection"]:
                continue
            if record["model"] and record["model"] != weights_digest(model):
                raise ValueError(
                    f"{self.collection} answers for model {record['model_name']} "
                    f"({record['model'][:12]}), and {model} is another: export the run that was "
                    "deployed, or roll it back"
                )
            self.collection, self.vector = record["collection"], record["vector_name"] or None
            self.distance = record["distance"] or DISTANCE
            return

    def search(self, vector: np.ndarray, k: int) -> list[Hit]:
        """The k best passages for a query, float32 [dimension]; ties: the larger id first."""
        query = self._client.collections.use(self.collection).query
        return self._hits(query.near_vector(vector.tolist(), **self._options(k)).objects, k)

    async def asearch(self, vector: np.ndarray, k: int) -> list[Hit]:
        """Like `search`, without blocking the event loop."""
        client = await self._opened()
        query = client.collections.use(self.collection).query
        reply = await query.near_vector(vector.tolist(), **self._options(k))
        return await asyncio.to_thread(self._hits, reply.objects, k)

    async def _opened(self) -> weaviate.WeaviateAsyncClient:
        loop = asyncio.get_running_loop()
        for each in [each for each in self._async if each.is_closed()]:
            del self._async[each]
            self._locks.pop(each, None)
        async with self._locks.setdefault(loop, asyncio.Lock()):
            if loop not in self._async:
                client = weaviate.use_async_with_custom(**_address())
                await client.connect()
                self._async[loop] = client
        return self._async[loop]

    def _options(self, k: int) -> dict[str, Any]:
        if k > MOST:
            raise ValueError(f"k is {k}, but one query returns at most {MOST} passages")
        return {
            "limit": min(k + self._ties, MOST),
            "target_vector": self.vector,
            "return_properties": _properties(),
            "return_metadata": MetadataQuery(distance=True),
        }

    def _hits(self, objects: Sequence[Any], k: int) -> list[Hit]:
        distances = np.array([stored.metadata.distance for stored in objects], np.float32)
        scores = -distances if self.distance == "dot" else 1 - distances
        pairs = zip(scores.tolist(), map(_id, objects), objects, strict=True)
        best = sorted(pairs, key=lambda pair: pair[:2], reverse=True)[:k]
        return [Hit(id, score, *self._text(id, stored)) for score, id, stored in best]

    def _text(self, id: str, stored: Any) -> tuple[str, str]:
        """A passage's title and text."""
        if self._passages is None:
            names = (TITLE_PROPERTY, TEXT_PROPERTY)
            values = (stored.properties.get(name) if name else None for name in names)
            title, text = ("" if value is None else str(value) for value in values)
            return title, text
        row = self._passages.row(id)
        if row is None:
            logging.getLogger(__name__).warning(
                "passage %r was added after the export: no text", id
            )
            return "", ""
        passage = self._passages[row]
        return passage["title"], passage["text"]

    # region space
    def vectors_of(self, ids: Sequence[str]) -> dict[str, np.ndarray]:
        """The vectors of existing passages, float32 [dimension], by id."""
        query = self._client.collections.use(self.collection).query
        options: dict[str, Any] = {
            "include_vector": [self.vector] if self.vector else True,
            "return_properties": _properties(),
            "limit": MOST,  # ids are compared without case, so more objects may match
        }
        if ID_PROPERTY is None:
            objects: Sequence[Any] = query.fetch_objects_by_ids(list(ids), **options).objects
        else:
            wanted: list[Any] = [int(id) for id in ids] if ID_IS_NUMBER else list(ids)
            having = Filter.by_property(ID_PROPERTY).contains_any(wanted)
            objects = query.fetch_objects(filters=having, **options).objects
        name = self.vector or VECTOR
        return {
            _id(stored): np.asarray(stored.vector[name], np.float32)
            for stored in objects
            if _id(stored) in set(ids) and name in stored.vector
        }

    # endregion
    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    async def aclose(self) -> None:
        """Close the connections, including that of this event loop."""
        client = self._async.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.close()
        self.close()


def weights_digest(folder: Path) -> str:
    """Hex SHA-256 of a model's .safetensors files, one after the other."""
    files = [
        (file.relative_to(folder).as_posix(), file)
        for file in folder.rglob("*.safetensors")
        if file.name != "space.safetensors" and not file.relative_to(folder).match("checkpoint-*/*")
    ]
    whole = hashlib.sha256()
    for _, path in sorted(files):
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                whole.update(block)
    return whole.hexdigest()


def _properties() -> list[str]:
    return [name for name in (ID_PROPERTY, TITLE_PROPERTY, TEXT_PROPERTY) if name is not None]


def _id(stored: Any) -> str:
    value = stored.properties.get(ID_PROPERTY) if ID_PROPERTY is not None else None
    return str(stored.uuid) if value in (None, "") else str(value)


def _address() -> dict[str, Any]:
    """The server's address and key, as arguments of weaviate's `connect_to_custom`."""
    rest = _url(os.environ.get("WEAVIATE_URL") or "http://127.0.0.1:8080")
    call = _url(os.environ.get("WEAVIATE_GRPC_URL") or f"{rest.scheme}://")
    key = (os.environ.get("WEAVIATE_API_KEY") or "").strip()
    return {
        "http_host": rest.hostname,
        "http_port": rest.port or (443 if rest.scheme == "https" else 80),
        "http_secure": rest.scheme == "https",
        "grpc_host": call.hostname or rest.hostname,
        "grpc_port": call.port or 50051,
        "grpc_secure": call.scheme == "https",
        "auth_credentials": Auth.api_key(key) if key else None,
        "additional_config": AdditionalConfig(timeout=Timeout(init=5, query=30)),
        "skip_init_checks": True,  # the checks also contact a package registry
    }


def _url(text: str) -> SplitResult:
    return urlsplit(text if "//" in text else f"http://{text}")


# endregion
class TercetRetriever(BaseRetriever):
    """Searches the passages of the run's index with the run's model.

    The constructor loads the model and opens the index. Raises FileNotFoundError without the
    model's or the passages' folder, and ValueError for passages with other vectors.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    k: int = Field(default=K, ge=1)
    """Number of passages; a call may override it: `invoke(query, k=3)`."""
    model: str = str(Path(__file__).with_name(MODEL[2:])) if MODEL[:2] == "./" else MODEL
    """The model's folder or Hub name."""
    revision: str | None = REVISION
    """The revision on the Hub."""
    device: str | None = None
    """The device of the model; None uses a GPU if available."""
    passages: Path | None = Path(__file__).with_name(PASSAGES) if PASSAGES else None
    """The folder of the passages; None if the collection has their texts."""
    # region weaviate
    collection: str = COLLECTION
    """The collection, or its alias, with the passage vectors."""
    # endregion

    _encoder: QueryEncoder = PrivateAttr()
    _index: Any = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Load the model and open the index."""
        super().model_post_init(context)
        self._encoder = QueryEncoder(self.model, self.revision, self.device)
        # region exact
        if self.passages is None:
            raise ValueError("give the folder of the passages")
        self._index = ExactIndex(self.passages)
        # endregion
        # region weaviate
        self._index = WeaviateIndex(self.collection, self.passages)
        try:
            self._index.follow(self._encoder.folder)
        except BaseException:
            self.close()
            raise
        # endregion
        # region space
        try:
            self._check_space()
        except BaseException:
            self.close()
            raise
        # endregion

    # region space
    def _check_space(self) -> None:
        """Refuse vectors that this model was not adapted to."""
        folder = self._encoder.folder if SPACE == "model" else self.passages
        assert folder is not None
        with safe_open(folder / "space.safetensors", framework="numpy") as file:
            vectors, about = file.get_tensor("vectors"), json.loads(file.metadata()["space"])
        found = self._index.vectors_of(about["ids"])
        belongs = f"this model belongs to {about['place']}, not to these vectors"
        for id, vector in zip(about["ids"], vectors, strict=True):
            if id not in found or found[id].shape != vector.shape:
                raise ValueError(f"{belongs} (passage {id!r} has no vector of that size)")
            # A server may normalise vectors or store them in half precision.
            lengths = float(np.linalg.norm(found[id]) * np.linalg.norm(vector))
            cosine = float(found[id] @ vector) / max(lengths, 1e-30)
            if cosine < 0.999:
                raise ValueError(
                    f"{belongs} (passage {id!r} has another vector, cosine {cosine:.2f})"
                )

    # endregion
    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self._wanted(k)
        return _documents(self._index.search(self._encoder.encode(query), wanted))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None
    ) -> list[Document]:
        wanted = self._wanted(k)
        vector = await asyncio.to_thread(self._encoder.encode, query)
        return _documents(await self._index.asearch(vector, wanted))

    def _wanted(self, k: int | None) -> int:
        if k is not None and k < 1:
            raise ValueError(f"k is {k}: it must be at least 1")
        return k or self.k

    def close(self) -> None:
        """Close the index."""
        self._index.close()

    async def aclose(self) -> None:
        """Like `close`, for the event loop that awaited the retriever."""
        await self._index.aclose()


def _documents(hits: Sequence[Hit]) -> list[Document]:
    return [
        Document(
            id=hit.id,
            page_content=hit.text or hit.title,
            metadata={"id": hit.id, "title": hit.title, "score": hit.score},
        )
        for hit in hits
    ]


#: Tolerance of scores up to 1; it is relative for larger scores.
TOLERANCE = 1e-4
#: Queries of the run, and the passages with scores that it found for each, best first.
EXPECTED: list[tuple[str, list[tuple[str, float]]]] = [
    ("a question", [("p1", 0.75), ("p0", 0.5)]),
]


def self_test(retriever: TercetRetriever) -> bool:
    """Search with the queries of `EXPECTED` and print a line each; True if all are the same."""
    same = 0
    for query, expected in EXPECTED:
        documents = retriever.invoke(query, k=len(expected))
        found = [(found.metadata["id"], found.metadata["score"]) for found in documents]
        fault = _difference(expected, found)
        same += fault is None
        print(f"{'same' if fault is None else 'DIFFERS'}  {query!r}{f': {fault}' if fault else ''}")
    verdict = "as the run found" if same == len(EXPECTED) else "the others differ from the run"
    print(f"{same} of {len(EXPECTED)} queries of run {RUN!r}: {verdict}")
    return same == len(EXPECTED)


def _difference(
    expected: Sequence[tuple[str, float]], found: Sequence[tuple[str, float]]
) -> str | None:
    """The difference in words, or None. Passages with scores within tolerance may swap."""
    tolerance = TOLERANCE * max([1.0, *(abs(score) for _, score in expected)])
    if len(found) != len(expected):
        return f"{len(found)} passages instead of {len(expected)}"
    for (id, score), (other, got) in zip(expected, found, strict=True):
        if abs(score - got) > tolerance:
            return f"{other!r} with score {got:.6f} instead of {id!r} with {score:.6f}"
    before, now = dict(expected), dict(found)
    last = max(expected[-1][1], found[-1][1]) + tolerance  # ties at the cutoff may be in or out
    for id in before.keys() | now.keys():
        if id not in now and before[id] > last or id not in before and now[id] > last:
            return f"{id!r} was {'not ' if id in now else ''}found by the run"
        if id in now and id in before and abs(before[id] - now[id]) > tolerance:
            return f"{id!r} has score {now[id]:.6f} instead of {before[id]:.6f}"
    return None


#: Errors that end the program with one line.
FAULTS: tuple[type[Exception], ...] = (OSError, ValueError)
FAULTS += (weaviate.exceptions.WeaviateBaseError,)  # only: weaviate


def main() -> int:
    """The command line. Exit code 1: the self-test differs; 2: an error."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("query", nargs="?", help="a question")
    parser.add_argument("--k", type=int, default=K, help="how many passages")
    parser.add_argument("--self-test", action="store_true", help="compare with the run")
    given = parser.parse_args()
    if given.self_test == (given.query is not None):
        parser.error("give a question, or --self-test")
    try:
        retriever = TercetRetriever()
        try:
            if given.self_test:
                return 0 if self_test(retriever) else 1
            for found in retriever.invoke(given.query, k=given.k):
                print(f"{found.metadata['score']:.4f}  {found.metadata['id']!r}", end="  ")
                print(f"{found.metadata['title']!r}  {found.page_content!r}")
        finally:
            retriever.close()
    except FAULTS as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
