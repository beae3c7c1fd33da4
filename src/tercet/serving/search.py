"""Search in finished runs and in live Weaviate collections."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.index import IndexSettings
from tercet.config.parsing import nearest
from tercet.core.cache import cache_folder, make_once
from tercet.core.console import console
from tercet.core.files import digest, kept, read_json, weights_digest, write_json
from tercet.core.schema import Index, InputError, Passage
from tercet.evaluation.systems import Systems
from tercet.modeling.hub import resolve
from tercet.pipeline.finished import served
from tercet.pipeline.pipeline import Pipeline
from tercet.retrieval.vector_files import cosines

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection

#: Percentile of held-out queries' best scores that is the answerability threshold.
BELOW = 5
#: Held-out queries that the threshold is computed from, and passages compared with a collection's.
_QUERIES, _SAMPLE = 256, 16
#: Least cosine of a passage's vector with itself, encoded in another batch and stored by a server.
_SAME = 0.98


class RunSearch:
    """Searches the passages of a finished run; close it, or use it as a context manager.

    `system` is "adapted", "base", or the label of a system in `evaluation.systems`. If the run is
    served by a Weaviate collection with that system's vectors, it is searched; otherwise the search
    is exact and in this process. Raises InputError for a system that cannot encode new queries, and
    for a collection with other vectors.
    """

    def __init__(self, pipeline: Pipeline, system: str) -> None:
        listed = Systems(pipeline, pipeline.recipe.evaluation.systems, [])
        settings = [SystemSettings(kind="adapted"), SystemSettings(kind="base")]
        settings += [each.settings for each in listed.values() if each.live]
        systems = Systems(pipeline, settings, [])
        if system not in systems:
            raise InputError(
                f"chat.system {system!r} is no system with an encoder{nearest(system, [*systems])}"
            )
        self.pipeline, self.system = pipeline, system
        (self._system,) = systems[system].encoded
        self._encoder = self._system.live_encoder()
        self._index, self.place = self._open()
        self._retriever = retrieval.DenseRetriever(self._encoder, self._index)

    def __enter__(self) -> RunSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Free the index; a collection on a server is kept."""
        self._index.discard()

    def search(self, question: str, k: int) -> list[tuple[Passage, float]]:
        """Up to k passages with their scores, best first."""
        passages = self.pipeline.passages
        (ranking,) = self._retriever.search([question], k)
        rows = passages.rows(id for id, _ in ranking)
        unknown = [id for id, _ in ranking if id not in rows]
        if unknown:
            console.print(
                f"left out {len(unknown)} results from {self.place} that are not in the run's "
                f"corpus: {', '.join(map(repr, unknown))}",
            )
        return [(passages[rows[id]], score) for id, score in ranking if id in rows]

    def answerability_threshold(self) -> float:
        """The 5th percentile of held-out queries' best scores.

        The corpus answers those queries, so a query with a lower best score probably has no answer
        in it. Computed once and kept in the user's cache: a reader writes nothing to a run.
        """
        pipeline = self.pipeline
        inputs = {
            "below": BELOW,
            "asked": _QUERIES,
            "system": self._system.identity(),
            "triplets": pipeline.triplets.digest,
            "passages": pipeline.corpus.digest_of("passages"),
        }

        def make(folder: Path) -> None:
            scores = self._best_scores()
            threshold = {"score": float(np.percentile(scores, BELOW)), "queries": len(scores)}
            write_json(folder / "threshold.json", threshold)

        place = cache_folder("answerability") / digest(inputs)
        found = kept(make_once(place, make) / "threshold.json", lambda kept: float(kept["score"]))
        if found is None:  # damaged
            shutil.rmtree(place)
            found = float(read_json(make_once(place, make) / "threshold.json")["score"])
        return found

    def _best_scores(self) -> list[float]:
        """The best score of each query in a seeded sample of the held-out ones."""
        splits = (self.pipeline.split(split)[0] for split in ("validation", "guard"))
        texts = sorted({query.text for queries in splits for query in queries})
        drawn = sorted(np.random.default_rng(0).permutation(len(texts))[:_QUERIES].tolist())
        rankings = self._retriever.search([texts[row] for row in drawn], 1)
        return [score for ((_, score),) in rankings]

    # ── the index ────────────────────────────────────────────────────────────────────────────

    def _open(self) -> tuple[Index, str]:
        """An index of the system's vectors, and its place in words."""
        recipe, passages = self.pipeline.recipe, self.pipeline.passages
        if recipe.index.backend == "weaviate" and self._system.published:
            section, live = served(self.pipeline)
            try:
                self._check_vectors(live)
            except BaseException:
                live.discard()
                raise
            return live, f"collection {section.collection}"
        index = retrieval.ExactIndex()
        index.build(passages.ids, self._system.vectors)
        return index, f"{len(passages):,} passages, exactly"

    def _check_vectors(self, live: LiveCollection) -> None:
        """Raises InputError if the collection holds other vectors: an alias may have been moved."""
        passages = self.pipeline.passages
        rows = np.sort(np.random.default_rng(0).permutation(len(passages))[:_SAMPLE])
        ids = [passages.ids[row] for row in rows.tolist()]
        found, place = live.vectors_of(ids), f"collection {live.name}, vector {live.vector}"
        if self.pipeline.recipe.model.frozen:
            known = np.asarray(self.pipeline.vectors[rows])
        else:
            known = self._encoder.encode_passages([passages.contents[row] for row in rows.tolist()])
        if found.shape == known.shape and cosines(found, known).min() >= _SAME:
            return
        raise InputError(
            f"{place} holds other vectors than those of run {self.pipeline.recipe.name}: move the "
            "alias back to its collection, or run `tercet adapt` with another index.alias"
        )


def live_retriever(
    model: str | Path,
    collection: str,
    *,
    vector: str | None = None,
    id: str | None = None,
    tenant: Sequence[str] = (),
    **given: Any,
) -> retrieval.DenseRetriever:
    """A retriever of a model that `train.py` wrote over a Weaviate collection or alias.

    `vector`, `id` and `tenant` are as a recipe's `index.vector`, `index.id` and `index.tenant`, by
    default those stored with the model; `given` goes to its `from_pretrained`. Where a model was
    deployed under the name, the collection and vector that the server's record names are searched.
    A query encoder is stored with a sample of the vectors that it was adapted to. Raises InputError
    for a collection with other vectors or deployed for another model, and for one that does not
    exist.
    """
    encoder = modeling.load_query_encoder(model, **given)
    space = encoder.space
    stamp = weights_digest(resolve(str(model)).path)
    if stored := retrieval.deployed(collection, vector, stamp, str(model)):
        collection, vector = stored.collection, vector or stored.searched
        id = id or stored.id_property
    if space:
        vector, id = vector or space.vector, id or space.id
        tenant = tenant or (space.tenant.split(",") if space.tenant else ())
    try:
        index = retrieval.open_live(
            IndexSettings(
                backend="weaviate",
                collection=collection,
                vector=vector,
                id=id,
                tenant=[*tenant],
            )
        )
    except InputError as error:
        if space and collection != space.collection:
            raise space.refusal(f"collection {collection}", str(error)) from None
        raise
    try:
        place = f"collection {index.name}, vector {index.vector}"
        if encoder.dimension != index.dimension:
            why = f"its vectors have {index.dimension} dimensions, queries {encoder.dimension}"
            raise space.refusal(place, why) if space else InputError(f"{model}, {place}: {why}")
        if space:
            space.check(place, index.metric, index.vectors_of)
    except BaseException:
        index.discard()
        raise
    return retrieval.DenseRetriever(encoder, index)
