"""Vectors on a live Weaviate server: the index that a search service really uses.

Each `build` writes a new collection and leaves the older ones, so that a running service keeps its
answers until an alias is pointed at the better one. Everything written is counted and read back.
"""

from __future__ import annotations

import os
import re
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Literal, Self, TypeVar, get_args
from urllib.parse import SplitResult

import numpy as np

from tercet.retrieval.checks import check_k, check_queries, check_vectors, in_order
from tercet.retrieval.weaviate_server import (
    CONNECT_SECONDS,
    GRPC_OPTIONS,
    check_name,
    check_reachable,
    one_line,
    parse_url,
    weaviate_name,
    with_port,
)
from tercet.schema import InputError, Ranking

try:
    import httpx
    import weaviate
    from weaviate import exceptions as faults
    from weaviate.classes.config import (
        Configure,
        DataType,
        Property,
        Reconfigure,
        Tokenization,
        VectorDistances,
    )
    from weaviate.classes.init import AdditionalConfig, Auth, Timeout
    from weaviate.classes.query import MetadataQuery
    from weaviate.config import GrpcConfig
    from weaviate.util import generate_uuid5
except ImportError as error:
    raise InputError("weaviate-client is not installed: pip install 'tercet[weaviate]'") from error

Kind = Literal["hnsw", "hnsw+pq", "flat", "hfresh"]
Metric = Literal["dot", "cosine"]
Answer = TypeVar("Answer")

_NEEDS = {"aliases": (1, 32), "hfresh": (1, 38)}  # the client itself asks for 1.27
_PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds between tries of a call that failed for the moment
_TIES = 16  # asked for beyond k, so that equal scores at the cut-off fall to the right id
_MOST = 10_000  # results of one query: the server's QUERY_MAXIMUM_RESULTS unless it was changed


class WeaviateError(InputError):
    """The server failed or refused: one line, never with the key."""


class RefusedPassages(WeaviateError):
    """Passages that the server would not take; `failures` has all, by passage id, with reasons."""

    def __init__(self, collection: str, failures: Mapping[str, str]) -> None:
        self.failures = dict(failures)
        shown = [f"{id!r} ({one_line(why, 160)})" for id, why in list(self.failures.items())[:20]]
        more = ", …" if len(self.failures) > len(shown) else ""
        super().__init__(
            f"Weaviate refused {len(failures)} passages for {collection}: {', '.join(shown)}{more}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class WeaviateSettings:
    """How a collection is laid out and searched.

    ef, ef_construction and max_connections are HNSW's, and high enough that a miss is the
    encoder's; segments is product quantization's (None: the server chooses; else a divisor of the
    dimension) and training_limit the vectors that it learns from; search_probe and rescore_limit
    are HFresh's, the latter also the most that one query can return.
    """

    kind: Kind = "hnsw"
    metric: Metric = "dot"
    collection: str = "Tercet"
    ef: int = 2000
    ef_construction: int = 512
    max_connections: int = 64
    segments: int | None = None
    training_limit: int = 100_000
    search_probe: int = 256
    rescore_limit: int = 350
    batch_size: int = 256
    threads: int = 4
    patience: float = 1800.0  # seconds that indexing and training may go on after the import

    def __post_init__(self) -> None:
        for field, known in (("kind", get_args(Kind)), ("metric", get_args(Metric))):
            if getattr(self, field) not in known:
                raise InputError(
                    f"weaviate {field} {getattr(self, field)!r} is unknown: "
                    f"choose from {', '.join(known)}"
                )

    @property
    def distance(self) -> Any:
        """The server's metric: HFresh knows no dot product, which for unit passages is cosine."""
        dot = self.metric == "dot" and self.kind != "hfresh"
        return VectorDistances.DOT if dot else VectorDistances.COSINE


class WeaviateIndex:
    """An Index on a Weaviate server. Use as a context manager, or close it.

    A score is the dot product or, with metric "cosine", the cosine: larger is better.
    """

    def __init__(self, client: Any, url: str, settings: WeaviateSettings) -> None:
        self._client = client
        self._url = url
        self.settings = settings
        self.collection_name: str | None = None
        self._dimension = 0

    @classmethod
    def connect(
        cls,
        kind: Kind = "hnsw",
        *,
        url: str | None = None,
        grpc_url: str | None = None,
        api_key: str | None = None,
        **settings: Any,
    ) -> WeaviateIndex:
        """Reaches a server; `settings` are WeaviateSettings' fields.

        What is not given comes from WEAVIATE_URL (else http://127.0.0.1:8080), WEAVIATE_GRPC_URL
        (else port 50051 of the same host) and WEAVIATE_API_KEY. Raises InputError for a server
        that is unreachable, refuses the key or is too old.
        """
        chosen = WeaviateSettings(kind=kind, **settings)
        rest = parse_url(url or os.environ.get("WEAVIATE_URL") or "http://127.0.0.1:8080")
        grpc_url = grpc_url or os.environ.get("WEAVIATE_GRPC_URL")
        call = parse_url(grpc_url) if grpc_url else with_port(rest, 50051)
        check_reachable(rest, call)
        index = cls(_client(rest, call, api_key), rest.geturl(), chosen)
        try:
            if kind == "hfresh":
                index.need("hfresh")
        except BaseException:
            index.close()
            raise
        return index

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        kind, metric = self.settings.kind, self.settings.metric
        return f"WeaviateIndex({self._url!r}, {kind=}, {metric=}, {self.collection_name!r})"

    def close(self) -> None:
        """Lets the connection go; the collections stay."""
        self._client.close()

    def build(self, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Writes a new collection, `collection_name`, and searches it from now on.

        Older collections stay: `drop` them. If anything goes wrong the new one is dropped and the
        index is as before. Raises RefusedPassages, WeaviateError, and InputError as Index does.
        """
        vectors = check_vectors(ids, vectors)
        self._check_fit(vectors)
        name = f"{weaviate_name(self.settings.collection)}_{uuid.uuid4().hex[:12]}"
        try:
            collection = self._create(name)
            self._write(collection, ids, vectors)
            self._settle(collection, len(ids))
            self._verify(collection, ids, vectors)
        except BaseException:
            with suppress(WeaviateError):
                self.drop(name)
            raise
        self.collection_name, self._dimension = name, vectors.shape[1]

    def search(self, vectors: np.ndarray, k: int) -> list[Ranking]:
        """As Index.search; `threads` queries at once, each tried again while the server is busy."""
        check_k(k)
        if self.collection_name is None:
            raise InputError("the Weaviate index is empty: build it, or open a collection")
        most = self.settings.rescore_limit if self.settings.kind == "hfresh" else _MOST
        if k > most:
            raise InputError(
                f"k is {k} and one query returns at most {most} passages: ask for fewer"
                + (", or build with a larger rescore_limit" if most != _MOST else "")
            )
        vectors = check_queries(vectors, self._dimension)
        collection = self._client.collections.use(self.collection_name)
        with ThreadPoolExecutor(self.settings.threads) as pool:
            return list(pool.map(lambda query: self._nearest(collection, query, k, most), vectors))

    def open(self, collection: str) -> None:
        """Searches a collection that exists, by its name or by an alias of it.

        The index takes over its kind. Raises InputError if it is not there, is empty, was not
        written by `build`, or compares by another metric than this index.
        """
        handle = self._client.collections.use(collection)
        try:
            config = self._ask(f"read collection {collection}", handle.config.get)
        except _Missing:
            raise InputError(f"{self._url} has no collection or alias {collection!r}") from None
        if "default" not in (config.vector_config or {}) or not any(
            prop.name == "passage_id" for prop in config.properties
        ):
            raise InputError(f"collection {config.name} was not written by Tercet: choose another")
        vector_index = config.vector_config["default"].vector_index_config
        settings = _settings_of(vector_index, self.settings)
        if settings.distance != vector_index.distance_metric:
            raise InputError(
                f"collection {config.name} compares by {vector_index.distance_metric.value} and "
                f"this index by {self.settings.metric}: connect with the same metric"
            )
        found = self._ask(
            f"read collection {config.name}",
            lambda: handle.query.fetch_objects(limit=1, include_vector=True).objects,
        )
        if not found:
            raise InputError(f"collection {config.name} is empty: build it again")
        self.settings, self.collection_name = settings, config.name
        self._dimension = len(found[0].vector["default"])

    def drop(self, collection: str) -> None:
        """Deletes a collection; well if there is none. Raises InputError if an alias serves it."""
        if self._version() >= _NEEDS["aliases"]:
            aliases = self._ask(
                "list aliases", lambda: self._client.alias.list_all(collection=collection)
            )
            if aliases:
                names = ", ".join(sorted(aliases))
                raise InputError(f"alias {names} serves {collection}: point it elsewhere first")
        self._ask(f"drop {collection}", lambda: self._client.collections.delete(collection))
        if collection == self.collection_name:
            self.collection_name = None

    def discard(self) -> None:
        """Drops the collection that was built last, and lets the connection go."""
        if self.collection_name is not None:
            self.drop(self.collection_name)
        self.close()

    def publish(self, alias: str) -> None:
        """Points `alias` at the collection, drops the one of Tercet's that it pointed at before.

        The connection is let go: whoever searches on asks the server for the alias.
        """
        if self.collection_name is None:
            raise InputError(f"nothing was built that alias {alias} could serve")
        before = self.resolve(alias)
        self.set_alias(alias, self.collection_name)
        prefix = f"{weaviate_name(self.settings.collection)}_"
        if before not in (None, self.collection_name) and before.startswith(prefix):
            with suppress(InputError):  # another alias serves it too: it stays
                self.drop(before)
        self.close()

    def serves(self, alias: str) -> bool:
        """Whether `alias` names a collection on the server."""
        return self.resolve(alias) is not None

    def set_alias(self, alias: str, collection: str) -> None:
        """Makes `alias` serve a collection from now on, in one step, new or pointed elsewhere."""
        self.need("aliases")
        check_name(alias)
        what, aliases = f"point alias {alias} at {collection}", self._client.alias
        if self.resolve(alias) is None:
            self._ask(
                what,
                lambda: aliases.create(alias_name=alias, target_collection=collection),
                again=False,
            )
        else:
            self._ask(
                what, lambda: aliases.update(alias_name=alias, new_target_collection=collection)
            )

    def resolve(self, alias: str) -> str | None:
        """The collection that an alias serves; None if there is no such alias."""
        self.need("aliases")
        found = self._ask(f"read alias {alias}", lambda: self._client.alias.get(alias_name=alias))
        return None if found is None else str(found.collection)

    def _version(self) -> tuple[int, ...]:
        text = str(self._ask("read the version", self._client.get_meta)["version"])
        return tuple(int(number) for number in re.findall(r"\d+", text)[:2])

    def need(self, what: str) -> None:
        """Raises InputError if the server is too old for "aliases" or "hfresh", by name."""
        if (have := self._version()) < (need := _NEEDS[what]):
            raise InputError(
                f"{self._url} is Weaviate {have[0]}.{have[1]}: {what} needs {need[0]}.{need[1]} "
                "or newer"
            )

    def _check_fit(self, vectors: np.ndarray) -> None:
        settings = self.settings
        if settings.kind == "hfresh" and settings.metric == "dot":
            squares = np.einsum("nd,nd->n", vectors, vectors)
            if np.abs(squares - 1).max() > 2e-3:
                raise InputError(
                    "hfresh compares by cosine, and these vectors are not of length 1, so it would "
                    "not rank by dot product: choose hnsw, hnsw+pq or flat, or metric cosine"
                )
        if settings.kind == "hnsw+pq":
            if settings.segments and vectors.shape[1] % settings.segments:
                raise InputError(
                    f"{settings.segments} segments do not divide {vectors.shape[1]} dimensions: "
                    "choose a divisor, or leave segments out"
                )
            if len(vectors) < 3:
                raise InputError(
                    f"product quantization can't learn from {len(vectors)} passages: choose flat"
                )

    def _create(self, name: str) -> Any:
        index, distance, settings = Configure.VectorIndex, self.settings.distance, self.settings
        plain = index.Quantizer.none()  # a server may have a lossy default
        if settings.kind == "flat":
            config = index.flat(distance_metric=distance, quantizer=plain)
        elif settings.kind == "hfresh":
            config = index.hfresh(
                distance_metric=distance,
                search_probe=settings.search_probe,
                quantizer=index.Quantizer.rq(bits=1, rescore_limit=settings.rescore_limit),
            )
        else:
            config = index.hnsw(
                distance_metric=distance,
                ef=settings.ef,
                ef_construction=settings.ef_construction,
                max_connections=settings.max_connections,
                quantizer=plain,  # PQ is switched on over the full corpus, in _settle
            )
        passage_id = Property(
            name="passage_id",
            data_type=DataType.TEXT,
            tokenization=Tokenization.FIELD,
            index_filterable=True,
            index_searchable=False,
        )
        return self._ask(
            f"create collection {name}",
            lambda: self._client.collections.create(
                name,
                properties=[passage_id],
                vector_config=Configure.Vectors.self_provided(vector_index_config=config),
            ),
            again=False,
        )

    def _write(self, collection: Any, ids: Sequence[str], vectors: np.ndarray) -> None:
        def send() -> None:
            with collection.batch.fixed_size(self.settings.batch_size, 2) as batch:
                for id, vector in zip(ids, vectors, strict=True):
                    batch.add_object({"passage_id": id}, uuid=generate_uuid5(id), vector=vector)

        self._ask(f"import into {collection.name}", send, again=False)
        if failed := collection.batch.failed_objects:  # the client never raises for these
            raise RefusedPassages(
                collection.name,
                {fault.object_.properties["passage_id"]: fault.message for fault in failed},
            )

    def _settle(self, collection: Any, count: int) -> None:
        """Waits until every vector is in the index and, for hnsw+pq, every code is."""
        self._await(f"index {collection.name}", lambda: self._is_indexed(collection))
        if self.settings.kind != "hnsw+pq":
            return
        # The server trains once it holds more vectors than the limit: hence one less.
        quantizer = Reconfigure.VectorIndex.Quantizer.pq(
            centroids=min(256, count - 1),
            segments=self.settings.segments,
            training_limit=min(self.settings.training_limit, count - 1),
        )
        config = Reconfigure.VectorIndex.hnsw(quantizer=quantizer)
        self._ask(
            f"quantize {collection.name}",
            lambda: collection.config.update(
                vector_config=Reconfigure.Vectors.update(vector_index_config=config)
            ),
        )
        self._await(
            f"quantize {collection.name}",
            lambda: self._is_indexed(collection) and self._is_compressed(collection),
        )

    def _await(self, what: str, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + self.settings.patience
        while not self._ask(what, ready):
            if time.monotonic() > deadline:
                raise WeaviateError(
                    f"Weaviate at {self._url} did not {what} in {self.settings.patience:.0f} s: "
                    "see its log, or set patience higher"
                )
            time.sleep(0.1)

    def _is_indexed(self, collection: Any) -> bool:
        return all(
            shard.status == "READY" and not shard.vector_queue_size
            for shard in collection.config.get_shards()
        )

    def _is_compressed(self, collection: Any) -> bool:
        nodes = self._client.cluster.nodes(collection=collection.name, output="verbose")
        return all(shard.compressed for node in nodes for shard in node.shards)

    def _verify(self, collection: Any, ids: Sequence[str], vectors: np.ndarray) -> None:
        """Counts the collection and reads a sample back, up to 64 vectors, as they were sent."""
        what = f"read back {collection.name}"
        total = self._ask(what, lambda: collection.aggregate.over_all(total_count=True).total_count)
        if total != len(ids):
            raise WeaviateError(f"{collection.name} holds {total} passages of the {len(ids)} sent")
        sample = np.random.default_rng(0).choice(len(ids), min(64, len(ids)), replace=False)
        keys = [generate_uuid5(ids[row]) for row in sample]
        found = {
            str(stored.uuid): stored
            for stored in self._ask(
                what,
                lambda: (
                    collection.query.fetch_objects_by_ids(
                        keys, limit=len(keys), include_vector=True
                    ).objects
                ),
            )
        }
        for row, key in zip(sample, keys, strict=True):
            stored = found.get(key)
            if stored is None or stored.properties["passage_id"] != ids[row]:
                raise WeaviateError(f"{collection.name} lost passage {ids[row]!r}")
            if not self._same(np.asarray(stored.vector["default"], np.float32), vectors[row]):
                raise WeaviateError(f"{collection.name} holds another vector for {ids[row]!r}")

    def _same(self, stored: np.ndarray, sent: np.ndarray) -> bool:
        if stored.shape == sent.shape and self.settings.distance == VectorDistances.COSINE:
            # Servers may keep the vectors that they compare by cosine at length 1.
            stored, sent = (v / max(np.linalg.norm(v), 1e-30) for v in (stored, sent))
        return stored.shape == sent.shape and np.allclose(stored, sent, rtol=1e-4, atol=1e-6)

    def _nearest(self, collection: Any, query: np.ndarray, k: int, most: int) -> Ranking:
        reply = self._ask(
            f"search {collection.name}",
            lambda: collection.query.near_vector(
                query,
                limit=min(k + _TIES, most),
                return_properties=["passage_id"],
                return_metadata=MetadataQuery(distance=True),
            ),
        )
        distances = np.array([hit.metadata.distance for hit in reply.objects], np.float32)
        if self.settings.distance == VectorDistances.DOT:
            scores = -distances
        else:
            length = np.linalg.norm(query) if self.settings.metric == "dot" else np.float32(1)
            scores = (1 - distances) * length
        ids = [str(hit.properties["passage_id"]) for hit in reply.objects]
        return in_order(list(zip(ids, scores.tolist(), strict=True)), k)

    def _ask(self, what: str, call: Callable[[], Answer], *, again: bool = True) -> Answer:
        """The call's answer; what fails for the moment is tried again if doing so is harmless."""
        pauses = iter(_PAUSES if again else ())
        while True:
            try:
                return call()
            except (faults.WeaviateBaseError, httpx.HTTPError) as fault:
                pause = next(pauses, None) if _passes(fault) else None
                if pause is None:
                    raise _explain(fault, f"Weaviate at {self._url} could not {what}") from None
            time.sleep(pause)


class _Missing(WeaviateError):
    """Nothing has that name (HTTP status 404)."""


def _client(rest: SplitResult, call: SplitResult, api_key: str | None) -> Any:
    key = (api_key or os.environ.get("WEAVIATE_API_KEY") or "").strip()
    if not key.isascii() or not key.isprintable():
        raise InputError("the Weaviate API key holds characters that no key has: copy it again")
    try:
        return weaviate.connect_to_custom(
            http_host=rest.hostname,
            http_port=rest.port,
            http_secure=rest.scheme == "https",
            grpc_host=call.hostname,
            grpc_port=call.port,
            grpc_secure=call.scheme == "https",
            auth_credentials=Auth.api_key(key) if key else None,
            additional_config=AdditionalConfig(
                timeout=Timeout(init=CONNECT_SECONDS, query=30, insert=120),
                grpc_config=GrpcConfig(channel_options=GRPC_OPTIONS),
            ),
            skip_init_checks=True,  # they also ask a package registry for the client's version
        )
    except (faults.WeaviateBaseError, httpx.HTTPError, KeyError, ValueError) as fault:
        raise _explain(fault, f"could not talk to Weaviate at {rest.geturl()}") from None


def _settings_of(vector_index: Any, settings: WeaviateSettings) -> WeaviateSettings:
    """The settings, with the kind of a collection's vector index and the limits that follow."""
    kind: Any = vector_index.vector_index_type()
    quantizer = vector_index.quantizer
    if kind == "hfresh":
        limit = getattr(quantizer, "rescore_limit", None) or settings.rescore_limit
        return replace(settings, kind=kind, rescore_limit=limit)
    if kind == "hnsw" and quantizer is not None:
        kind = "hnsw+pq"
    return replace(settings, kind=kind)


def _passes(fault: Exception) -> bool:
    """Whether a later try may succeed. The client has itself retried gRPC's UNAVAILABLE."""
    if isinstance(fault, faults.UnexpectedStatusCodeError):
        return fault.status_code in (429, 502, 503, 504)
    if isinstance(fault, faults.WeaviateQueryError):
        return "deadline exceeded" in str(fault).lower()
    return isinstance(
        fault,
        faults.WeaviateTimeoutError | faults.WeaviateConnectionError | httpx.TransportError,
    )


def _explain(fault: Exception, what: str) -> WeaviateError:
    status = getattr(fault, "status_code", None)
    if status == 401 or "unauthenticated" in str(fault).lower():
        return WeaviateError(f"{what}: it wants a valid API key: set WEAVIATE_API_KEY")
    if status == 404:
        return _Missing(f"{what}: there is nothing of that name")
    return WeaviateError(f"{what}: {one_line(str(fault) or type(fault).__name__)}")
