"""What answers under a name: a record on the server, written last, that clients read.

An alias names a collection and cannot choose one of its vectors; the record names both, and the
model that encodes queries for them. It is one object of the collection `RECORDS`, whose UUID
follows from the served name.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tercet.core.extras import missing
from tercet.core.schema import InputError, ModelStamp
from tercet.retrieval.weaviate.alias import collection_behind, move_alias
from tercet.retrieval.weaviate.client import WeaviateServer
from tercet.retrieval.weaviate.collection import DEFAULT_VECTOR

try:
    from weaviate.classes.config import Configure, ConsistencyLevel, DataType, Property
    from weaviate.util import generate_uuid5
except ImportError as error:
    raise missing("weaviate-client", "weaviate") from error

#: The collection of the records.
RECORDS = "TercetDeployments"
#: Earlier deployments that stay.
KEEP = 2


@dataclass(frozen=True, kw_only=True)
class Deployment(ModelStamp):
    """A vector of a collection, stamped with the model of its queries."""

    collection: str
    #: Name of the vector; empty for the unnamed one of an older collection.
    vector_name: str = ""
    #: How the server compares: "dot" or "cosine".
    distance: str = ""
    #: The property with the passages' ids, or "uuid".
    id_property: str = "uuid"
    #: What was added to the server for it, and may be removed again.
    made: Literal["", "vector", "collection"] = ""
    #: Whether every object has its vector and the checks were passed.
    complete: bool = True
    #: Past the retention, with a vector that the server cannot drop.
    retired: bool = False
    time: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """Collection and vector."""
        return self.collection, self.vector_name

    @property
    def key(self) -> tuple[str, str, str]:
        """Place and model: query encoders of one place are several deployments."""
        return *self.place, self.model

    @property
    def searched(self) -> str:
        """The vector as `LiveCollection` names it."""
        return self.vector_name or DEFAULT_VECTOR

    def __str__(self) -> str:
        where = (
            f"vector {self.vector_name} of {self.collection}"
            if self.vector_name
            else self.collection
        )
        return f"{where}, model {self.model[:12] or 'unknown'}"


@dataclass(frozen=True)
class Record:
    """The deployments of one served name, oldest first; `at` is the number of the current one."""

    served: str
    alias: str = ""
    entries: tuple[Deployment, ...] = ()
    at: int = -1

    @property
    def current(self) -> Deployment | None:
        """What answers now."""
        return self.entries[self.at] if self.at >= 0 else None

    def entry(self, place: tuple[str, str]) -> Deployment | None:
        """The deployment of a collection and vector."""
        return next((each for each in self.entries if each.place == place), None)

    def begun(self, entry: Deployment) -> Record:
        """With a deployment that is being filled; what answers is unchanged."""
        if self.current and self.current.key == entry.key:
            return self
        others = tuple(each for each in self.entries if each.key != entry.key)
        at = others.index(self.current) if self.current else -1
        return replace(self, entries=(*others, replace(entry, complete=False)), at=at)

    def deployed(self, entry: Deployment, keep: int) -> tuple[Record, list[Deployment]]:
        """With `entry` as the current one after `keep` earlier ones; and those that are past."""
        known = [each for each in self.entries[: self.at + 1] if each.key != entry.key]
        past = [each for each in self.entries[self.at + 1 :] if each.key != entry.key]
        earlier = [each for each in known if not each.retired]
        past += earlier[: max(0, len(earlier) - keep)]
        retired = [each for each in known if each.retired]
        retired += [replace(each, retired=True) for each in past if each.made == "vector"]
        entries = (*retired, *earlier[max(0, len(earlier) - keep) :], entry)
        return replace(self, entries=entries, at=len(entries) - 1), past

    def rolled_back(self) -> Record:
        """With the deployment before the current one. Raises InputError if there is none."""
        before = self.at - 1
        if before < 0 or self.entries[before].retired:
            raise InputError(f"nothing was deployed to {self.served} before: it stays as it is")
        return replace(self, at=before)


_FLAT = [field.name for field in fields(Deployment)]


class Records:
    """The records of a server."""

    def __init__(self, server: WeaviateServer) -> None:
        self.server = server

    def __iter__(self) -> Iterator[Record]:
        if not self._there():
            return
        after = None
        while True:
            page = self.server.ask(
                f"read {RECORDS}",
                lambda after=after: (  # type: ignore[misc]
                    self._handle.query.fetch_objects(limit=200, after=after).objects
                ),
            )
            yield from (_record(stored.properties) for stored in page)
            if not page:
                return
            after = page[-1].uuid

    def find(self, name: str) -> Record | None:
        """The record of a served name or of the alias that it moves."""
        found = [each for each in self if name in (each.served, each.alias)]
        return next(iter(sorted(found, key=lambda each: each.served != name)), None)

    def at_place(self, collection: str, vector: str | None) -> list[Deployment]:
        """All deployments of a collection, and of its vector if that is named."""
        return [
            entry
            for record in self
            for entry in record.entries
            if entry.collection == collection and vector in (None, entry.vector_name)
        ]

    def write(self, record: Record, factor: int = 1) -> None:
        """Write a record on every replica, in one step; `factor` is how many a new collection has.

        A client sees the record before or after, and nothing between.
        """
        if not self._there():
            self._create(factor)
        current = record.current
        values: dict[str, Any] = {name: "" for name in _FLAT if name not in ("complete", "retired")}
        if current:
            values = {name: getattr(current, name) for name in values}
        values |= {"dimensions": values["dimensions"] or 0, "at": record.at}
        values |= {"served": record.served, "alias": record.alias}
        values["entries"] = json.dumps([asdict(entry) for entry in record.entries])
        data = self._handle.with_consistency_level(ConsistencyLevel.ALL).data
        key = generate_uuid5(record.served)

        def put() -> None:
            if data.exists(key):
                data.replace(uuid=key, properties=values)
            else:
                data.insert(values, uuid=key)

        self.server.ask(f"record what {record.served} serves", put)

    def remove(self, served: str) -> None:
        """Forget a served name."""
        if self._there():
            key = generate_uuid5(served)
            self.server.ask(f"remove {served}", lambda: self._handle.data.delete_by_id(key))

    @property
    def _handle(self) -> Any:
        return self.server.client.collections.use(RECORDS)

    def _there(self) -> bool:
        exists = self.server.client.collections.exists
        return bool(self.server.ask(f"look for {RECORDS}", lambda: exists(RECORDS)))

    def _create(self, factor: int) -> None:
        kinds = {"dimensions": DataType.INT, "at": DataType.INT}
        names = ["served", "alias", "entries", "at", *_FLAT]
        self.server.create(
            f"create {RECORDS}",
            self._there,
            lambda: self.server.client.collections.create(
                RECORDS,
                description="What answers under a name, and the model of its queries: Tercet",
                properties=[
                    Property(
                        name=name,
                        data_type=kinds.get(name, DataType.TEXT),
                        index_filterable=False,
                        index_searchable=False if name not in kinds else None,
                    )
                    for name in names
                    if name not in ("complete", "retired")
                ],
                vector_config=Configure.Vectors.self_provided(),
                replication_config=Configure.replication(factor=factor),
            ),
        )


def _record(stored: dict[str, Any]) -> Record:
    entries = tuple(Deployment(**entry) for entry in json.loads(stored["entries"]))
    return Record(stored["served"], stored["alias"] or "", entries, int(stored["at"]))


def now() -> str:
    """The time for a record."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def serve(
    server: WeaviateServer, record: Record, entry: Deployment, *, keep: int = KEEP, factor: int = 1
) -> list[str]:
    """Make `entry` what answers: move the alias, write the record, remove what is past.

    Returns the names of the collections that were removed: those that Tercet made, that are neither
    among the `keep` earlier deployments nor behind another alias.
    """
    updated, past = record.deployed(replace(entry, complete=True), keep)
    if record.alias:
        move_alias(server, record.alias, entry.collection)
    records = Records(server)
    records.write(updated, factor)
    needed = {
        each.collection
        for other in records
        for each in other.entries
        if not (other.served == record.served and each.retired)
    }
    removed = []
    for each in past:
        if each.made == "collection" and each.collection not in needed:
            with suppress(InputError):  # an alias points at it
                server.drop(each.collection)
                removed.append(each.collection)
    if removed:
        entries = [each for each in updated.entries if each.collection not in removed]
        records.write(replace(updated, entries=tuple(entries), at=len(entries) - 1))
    return removed


def publish(
    server: WeaviateServer, alias: str, entry: Deployment, *, made_by: str = ""
) -> list[str]:
    """Serve a collection that training has filled under an alias, as `serve`.

    What the alias served stays; collections whose names begin with `made_by` may be removed later.
    """
    record, before = Records(server).find(alias), collection_behind(server, alias)
    if record is None or record.current is None or record.current.collection != before:
        record = record or Record(alias, alias)
        if before and before != entry.collection and not record.entry((before, entry.vector_name)):
            ours = bool(made_by) and before.startswith(made_by)
            old = Deployment(
                collection=before,
                vector_name=entry.vector_name,
                id_property=entry.id_property,
                made="collection" if ours else "",
                time=now(),
            )
            entries = (*record.entries, old)
            record = replace(record, entries=entries, at=len(entries) - 1)
    return serve(server, replace(record, alias=alias), entry)


def rollback(server: WeaviateServer, name: str) -> tuple[Record, Deployment]:
    """Return to the deployment before the current one: move the alias back, write the record.

    Returns the record and the deployment that was left. Raises InputError for a name that nothing
    was deployed to, a first deployment, and one whose collection or vector is gone.
    """
    record = Records(server).find(name)
    if record is None or record.current is None:
        raise InputError(f"nothing was deployed to {name} on {server.url}: see `tercet deploy`")
    back = record.rolled_back()
    assert back.current is not None
    collections = server.client.collections
    gone = back.current.collection
    if not server.ask(f"look for {gone}", lambda: collections.exists(gone)):
        raise InputError(
            f"{name} cannot return to {back.current}: that collection was deleted; deploy again"
        )
    if back.alias:
        move_alias(server, back.alias, back.current.collection)
    Records(server).write(back)
    return back, record.current


def served_place(
    server: WeaviateServer, name: str, vector: str | None, model: str, model_name: str
) -> Deployment | None:
    """The deployment that queries of a model (its weights' digest) search under a name.

    `name` is a served name, its alias or a collection. None if nothing is recorded about it. Raises
    InputError if what is there belongs to another model.
    """
    records = Records(server)
    record = records.find(name)
    known = records.at_place(name, vector)
    if record and record.current and vector in (None, record.current.vector_name):
        known = [record.current]
    elif record and record.current:
        known = records.at_place(record.current.collection, vector)
    stamped = [entry for entry in known if entry.model]
    if stamped and not any(entry.model == model for entry in stamped):
        entry = stamped[-1]
        raise InputError(
            f"{name} answers for model {entry.model_name} ({entry.model[:12]}), and {model_name} "
            f"is another ({model[:12]}): search with that one, or deploy this one's run"
        )
    matching = [entry for entry in known if entry.model == model]
    return matching[-1] if matching else next(iter(known), None)
