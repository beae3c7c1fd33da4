"""What a deployment finds on the server, and what it will make there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from tercet.config.index import UUIDS
from tercet.core.files import weights_digest
from tercet.core.schema import InputError, ModelStamp
from tercet.data.sources.weaviate import WeaviateCollection
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.vector_files import cosines
from tercet.retrieval.weaviate.values import text_of, value_at

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.client import WeaviateServer
    from tercet.retrieval.weaviate.deployments import Deployment, Record
    from tercet.retrieval.weaviate.live import LiveCollection
    from tercet.retrieval.weaviate.reader import WeaviateReader
    from tercet.retrieval.weaviate.rollout import Rollout

#: In the collection itself, or in a copy of it under an alias.
Form = Literal["vector", "collection"]
#: Passages whose stored vectors tell whether the base model made them, and their least cosine.
_SAMPLE, _SAME = 16, 0.98


@dataclass
class Objects:
    """The collection's objects beside the run's passages."""

    total: int = 0
    of_run: int = 0
    without: list[str] = field(default_factory=list)


class Plan:
    """One deployment before any work: what is there, and what will be made where."""

    def __init__(
        self,
        pipeline: Pipeline,
        server: WeaviateServer,
        name: str,
        replaces: str | None,
        id: str | None,
    ) -> None:
        from tercet.retrieval.weaviate.alias import collection_behind
        from tercet.retrieval.weaviate.deployments import Record, Records
        from tercet.retrieval.weaviate.reader import WeaviateReader
        from tercet.retrieval.weaviate.rollout import check_rollout

        self.pipeline, self.recipe, self.server = pipeline, pipeline.recipe, server
        self.records = Records(server)
        behind = collection_behind(server, name)
        record = self.records.find(name) or Record(name, name if behind else "")
        if record.current and record.alias and behind and behind != record.current.collection:
            record = replace(record, at=-1)  # somebody moved the alias since
        self.record: Record = record
        held = record.current.collection if record.current else name
        self.tenants = self.recipe.index.tenant or self.recipe.corpus.tenant
        self.source: WeaviateReader = WeaviateReader(
            held, server, tenants=self.tenants, setting="index.collection"
        )
        if not self.recipe.model.frozen:
            check_rollout(self.source, copies=False)
        if len(self.source) == 0:
            raise InputError(f"collection {self.source.name} is empty: there is nothing to deploy")
        training = self.recipe.training
        hub = str(training.get("hub_model_id") or "") if training.get("push_to_hub") else ""
        self.encoder = pipeline.adapted_model()
        self.model: ModelStamp = pipeline.components.stamp(self.encoder, pipeline.model.path, hub)
        self._read_texts(id)
        self.objects = self._count()
        if not record.current:
            self.record = self._with_baseline(replaces)

    # ── what is there ────────────────────────────────────────────────────────────────────────────

    def _read_texts(self, id: str | None) -> None:
        """Find how objects' ids and texts are read.

        Texts come from the objects if the corpus was read from this collection; else from the run.
        """
        corpus = self.recipe.corpus
        names = {self.record.served, self.record.alias, str(self.source.config.name)}
        names |= {entry.collection for entry in self.record.entries}
        self.columns: WeaviateCollection | None = None
        if corpus.source == "weaviate" and (corpus.path in names or self._same(corpus.path)):
            self.columns = WeaviateCollection(self.source, corpus.passages)
            self.id = self.columns.id or UUIDS
        else:
            self.id = self.source.id_name(id) or UUIDS

    def _same(self, path: str) -> bool:
        from tercet.retrieval.weaviate.alias import collection_behind

        return collection_behind(self.server, path) == self.source.config.name

    def _ids(self, page: Sequence[Any]) -> list[str]:
        from tercet.retrieval.weaviate.collection import object_id

        return [object_id(each, None if self.id == UUIDS else self.id) for each in page]

    def _texts(self, page: Sequence[Any]) -> list[str]:
        """Title and text of each object."""
        if self.columns:
            names = [name for name in (self.columns.title, self.columns.text) if name]
            held = (
                [text_of(value_at(each.properties, name)) or "" for name in names] for each in page
            )
            return [" ".join(map(str, parts)).strip() for parts in held]
        ids = self._ids(page)
        found = self.pipeline.passages.texts(ids)
        return [found.get(id, "") for id in ids]

    def _count(self) -> Objects:
        """Compare the objects with the run's passages. Raises InputError where they do not fit."""
        objects, passages = Objects(), self.pipeline.passages
        for page in self.source.pages([] if self.id == UUIDS else [self.id], None):
            ids = page.ids(None if self.id == UUIDS else self.id)
            known = passages.rows(ids)
            objects.total += len(ids)
            objects.of_run += len(known)
            if len(objects.without) < 3:
                objects.without += [id for id in ids if id not in known][:3]
        strange = objects.total - objects.of_run
        if not objects.of_run or (strange and not self.columns):
            mend = (
                "name the property with its passages' ids with --id, or adapt a model to the "
                "collection itself (corpus.source weaviate)"
            )
            raise InputError(
                f"{strange:,} of {objects.total:,} objects of {self.source.name} are no passage of "
                f"run {self.recipe.name}, such as {objects.without[0]!r} (it has "
                f"{len(passages):,}, such as {passages.ids[0]!r}): {mend}"
            )
        return objects

    def _with_baseline(self, replaces: str | None) -> Record:
        """The record with what is searched now, so that a rollback can return to it."""
        from tercet.retrieval.weaviate.deployments import Deployment, now

        readers = self.source
        if replaces is not None:
            readers.vector_name(replaces)
        ours = {entry.vector_name for entry in self.record.entries if entry.made == "vector"}
        chosen = [replaces] if replaces else [name for name in readers.layouts if name not in ours]
        if not chosen:
            return self.record
        by_base = [name for name in chosen if self._is_of_base(name)]
        if len(by_base or chosen) > 1:
            raise InputError(
                f"collection {readers.name} has the vectors {', '.join(chosen)}: name the one that "
                "is searched now with --replaces"
            )
        (vector,) = by_base or chosen
        layout, model = readers.layouts[vector], ModelStamp()
        if by_base:
            base = self.pipeline.starting_model
            digest = "" if self.recipe.model.api else self._base_digest()
            model = ModelStamp(
                model=digest,
                model_name=self.recipe.model.name,
                dimensions=base.dimension,
                similarity=base.similarity,
                query_prompt=base.config.query_prompt if hasattr(base, "config") else "",
            )
        entry = Deployment(
            **asdict(model),
            collection=str(readers.config.name),
            vector_name="" if vector == readers.unnamed else vector,
            distance=str(layout.distance_metric.value),
            id_property=self.id,
            time=now(),
        )
        entries = (*(each for each in self.record.entries if each.key != entry.key), entry)
        return replace(self.record, entries=entries, at=len(entries) - 1)

    def _base_digest(self) -> str:
        folder = self.pipeline.components.folder(self.recipe.model.name)
        return weights_digest(folder)

    def _is_of_base(self, vector: str) -> bool:
        """Whether a vector of the collection is the base model's, as the run encoded passages."""
        passages, vectors = self.pipeline.passages, self.pipeline.vectors
        rows = np.sort(np.random.default_rng(0).permutation(len(passages))[:_SAMPLE])
        try:
            live = self.open(str(self.source.config.name), vector)
            found = live.vectors_of([passages.ids[row] for row in rows.tolist()])
        except InputError:  # it compares otherwise, or a passage is gone
            return False
        known = np.asarray(vectors[rows])
        return found.shape == known.shape and bool(cosines(found, known).min() >= _SAME)

    def open(self, collection: str, vector: str) -> LiveCollection:
        """A vector of a collection, to be searched."""
        from tercet.retrieval.weaviate.live import LiveCollection

        return LiveCollection.connect(
            collection,
            vector=vector,
            id_property=self.id,
            tenants=self.tenants,
            server=self.server,
        )

    # ── the plan ─────────────────────────────────────────────────────────────────────────────────

    def choose(self, form: Form | None, vector_name: str | None) -> None:
        """Choose the form and the place. Raises InputError for one that is taken."""
        from tercet.retrieval.weaviate.deployments import now
        from tercet.retrieval.weaviate.rollout import check_rollout

        current, reason = self.record.current, ""
        if self.recipe.model.frozen:
            if form or vector_name or current is None:
                raise InputError(
                    f"run {self.recipe.name} adapted queries alone, and the collection's vectors "
                    "stay: leave --as and --vector-name out, or name its vector with --replaces"
                )
            self.entry = replace(current, **asdict(self.model), made="", time=now())
            self.rollout: Rollout | None = None
            self.described = (
                f"{self.record.served}: {self.objects.total:,} objects keep their vectors; queries "
                f"get model {self.model.model_name} ({self.model.model[:12]})"
            )
            return
        if current and not current.made and current.model == self.model.model:
            raise InputError(
                f"run {self.recipe.name} ships its base model unchanged, whose vectors "
                f"{self.record.served} has already: there is nothing to deploy"
            )
        form, reason = (form, "") if form else self._form()
        check_rollout(self.source, copies=form == "collection")
        self.entry, self.rollout = self._rollout(form, vector_name)
        self.described = self._described(form, reason)

    def _form(self) -> tuple[Form, str]:
        """The form that fails no search which runs now, and why."""
        made = [entry.made for entry in self.record.entries if entry.made]
        if made:
            return made[-1], "as before"
        if self.record.alias:
            return "collection", f"{self.record.served} is an alias"
        if len(self.source.layouts) == 1 and not self.source.unnamed:
            (only,) = self.source.layouts
            return "collection", (
                f"{self.source.name} has one vector, {only}: searches that do not name it would "
                "fail beside a second"
            )
        return "vector", ""

    def _rollout(self, form: Form, vector_name: str | None) -> tuple[Deployment, Rollout]:
        from tercet.retrieval.weaviate.client import weaviate_name
        from tercet.retrieval.weaviate.deployments import Deployment, now
        from tercet.retrieval.weaviate.rollout import Rollout, like

        short, held = self.model.model[:12], str(self.source.config.name)
        vector, target, current = vector_name or f"tercet_{short}", held, self.record.current
        deployed = bool(current and current.model == self.model.model and current.made)
        if deployed and current:  # again: only what was added since
            vector, target = current.vector_name, current.collection
        elif form == "collection":
            target = f"{weaviate_name(self.record.served)}_{short}"
        metric = self.encoder.similarity
        entry = Deployment(
            **asdict(self.model),
            collection=target,
            vector_name=vector,
            distance=metric,
            id_property=self.id,
            made=current.made if deployed and current else form,
            time=now(),
        )
        self._check_free(entry)
        ours = {each.vector_name for each in self.record.entries if each.made}
        layouts = self.source.layouts
        settings = like(next(iter(layouts.values()), None), metric)
        return entry, Rollout(
            self.source,
            target,
            vector,
            settings,
            self._texts,
            self.encoder.encode_passages,
            carried=[name for name in layouts if name not in ours],
        )

    def _check_free(self, entry: Deployment) -> None:
        """Refuse a place that something else has, and an alias that is a collection."""
        from tercet.retrieval.weaviate.reader import WeaviateReader

        known = self.record.entry(entry.place)
        exists = self.server.client.collections.exists
        if known and known.model != entry.model:
            raise InputError(
                f"{entry.collection} has a vector {entry.vector_name} already, of model "
                f"{known.model[:12] or 'unknown'}: give another --vector-name"
            )
        if known is None and entry.collection == self.source.config.name:
            if entry.vector_name in self.source.layouts:
                raise InputError(
                    f"collection {entry.collection} has a vector {entry.vector_name} already, "
                    "which was not deployed by Tercet: give another --vector-name"
                )
        elif known is None and self.server.ask("look", lambda: exists(entry.collection)):
            reader = WeaviateReader(entry.collection, self.server, setting="")
            raise InputError(
                f"{self.server.url} has a collection {reader.name} already, which was not deployed "
                "by Tercet: delete it, or give --as vector"
            )
        if entry.made == "collection" and not self.record.alias:
            alias = f"{self.record.served}_current"
            if self.server.ask("look", lambda: exists(alias)):
                raise InputError(f"a collection has the alias's name {alias}: give --as vector")
            self.record = replace(self.record, alias=alias)

    def _described(self, form: Form, reason: str) -> str:
        objects, entry = self.objects, self.entry
        added = objects.total - objects.of_run
        gone = len(self.pipeline.passages) - objects.of_run
        said = [
            f"{self.record.served}: {objects.total:,} objects"
            + (f", {added:,} of them added since the run" if added else "")
            + (f"; {gone:,} of the run's passages are gone" if gone else "")
        ]
        if form == "collection":
            said.append(
                f"{entry.collection}: a copy with all properties and vector {entry.vector_name}, "
                f"under alias {self.record.alias}" + (f" ({reason})" if reason else "")
            )
        else:
            said.append(
                f"{entry.collection} gets vector {entry.vector_name}; searches must name their "
                "vector, and while it is written one may miss an object for milliseconds"
            )
        return "\n".join(said)
