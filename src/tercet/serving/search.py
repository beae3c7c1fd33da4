"""A finished run as something to ask: its passages, found by one of its systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import modeling, retrieval
from tercet.config.evaluation import SystemSettings
from tercet.config.index import IndexSettings
from tercet.config.parsing import nearest
from tercet.core.artifacts import Writer, produce
from tercet.core.console import console
from tercet.core.files import slug
from tercet.core.schema import Index, InputError, Passage
from tercet.evaluation.systems import Systems
from tercet.modeling.encoders.vector_space import cosines
from tercet.pipeline.finished import served
from tercet.pipeline.pipeline import Pipeline

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection

#: Systems that encode a question that nobody has asked before.
LIVE = ("base", "adapted", "dense", "cohere")
#: Of 100 held-out queries so many give no passage the usual score.
BELOW = 5
#: Held-out queries that tell the usual score, and passages that tell a collection from another.
ASKED, SAMPLE = 256, 16
#: Cosine of a passage's vector with itself: encoded in another batch, kept by a server.
SAME = 0.98


class RunSearch:
    """The passages of a finished run for a question; close it, or use it as a context manager.

    `system` is "adapted", "base", or the label of one in `evaluation.systems`. Searched is the
    Weaviate collection that serves the run, where it has one and holds that system's vectors, and
    else all vectors in the process, exactly. Raises InputError for a system that cannot be asked
    anything new, and for a collection with other vectors.
    """

    def __init__(self, pipeline: Pipeline, system: str) -> None:
        recipe = pipeline.recipe
        systems = {"adapted": SystemSettings(kind="adapted"), "base": SystemSettings(kind="base")}
        systems |= {each.label: each for each in recipe.evaluation.systems if each.kind in LIVE}
        if system not in systems:
            raise InputError(
                f"chat.system {system!r} is no system with an encoder{nearest(system, [*systems])}"
            )
        self.pipeline, self.system = pipeline, system
        self._systems = Systems(pipeline, list(systems.values()), [])
        self._encoder = self._systems.live_encoder(system)
        self._index, self.place = self._open(systems[system].kind)
        self._retriever = retrieval.DenseRetriever(self._encoder, self._index)

    def __enter__(self) -> RunSearch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let the index go; a collection stays as it is."""
        self._index.discard()

    def search(self, question: str, k: int) -> list[tuple[Passage, float]]:
        """Up to k passages with their scores, best first."""
        passages = self.pipeline.passages
        (ranking,) = self._retriever.search([question], k)
        rows = passages.rows(id for id, _ in ranking)
        strange = [id for id, _ in ranking if id not in rows]
        if strange:
            console.print(
                f"{len(strange)} found in {self.place} and not in the run's corpus, left out: "
                f"{', '.join(map(repr, strange))}",
                markup=False,
            )
        return [(passages[rows[id]], score) for id, score in ranking if id in rows]

    def answerability_threshold(self) -> float:
        """What the best passage of all but `BELOW` of 100 held-out queries scores.

        The corpus can answer them, so what scores less for another is likely to be no answer. It is
        measured once, and kept in the run's folder.
        """
        pipeline = self.pipeline
        inputs = {"system": self._systems.identity(self.system)}
        inputs |= {
            "triplets": pipeline.triplets.digest,
            "passages": pipeline.corpus.digest_of("passages"),
        }

        def make(writer: Writer) -> None:
            scores = self._best_scores()
            writer.facts |= {"usual_score": float(np.percentile(scores, BELOW))}
            writer.facts |= {"queries": len(scores)}

        settings = {"below": BELOW, "asked": ASKED}
        stage = pipeline.run.stage(f"usual_score_{slug(self.system)}", settings, inputs)
        return float(produce(stage, make).facts["usual_score"])

    def _best_scores(self) -> list[float]:
        """The best score of each held-out query, of a seeded sample of them."""
        splits = (self.pipeline.split(split)[0] for split in ("validation", "guard"))
        texts = sorted({query.text for queries in splits for query in queries})
        drawn = sorted(np.random.default_rng(0).permutation(len(texts))[:ASKED].tolist())
        rankings = self._retriever.search([texts[row] for row in drawn], 1)
        return [score for ((_, score),) in rankings]

    # ── where it searches ────────────────────────────────────────────────────────────────────

    def _open(self, kind: str) -> tuple[Index, str]:
        """An index of the system's vectors, and in words where it is."""
        recipe, passages = self.pipeline.recipe, self.pipeline.passages
        # Where the passages' vectors stay as they are, they are those of both.
        holds = kind == "adapted" or (kind == "base" and recipe.model.frozen)
        if recipe.index.backend == "weaviate" and holds:
            section, live = served(self.pipeline)
            try:
                self._check_vectors(live)
            except BaseException:
                live.discard()
                raise
            return live, f"collection {section.collection}"
        index = retrieval.ExactIndex()
        index.build(passages.ids, self._systems.vectors(self.system))
        return index, f"{len(passages):,} passages, exactly"

    def _check_vectors(self, live: LiveCollection) -> None:
        """Refuse a collection that holds others than the run's: an alias may be pointed away."""
        passages = self.pipeline.passages
        rows = np.sort(np.random.default_rng(0).permutation(len(passages))[:SAMPLE])
        ids = [passages.ids[row] for row in rows.tolist()]
        found, what = live.vectors_of(ids), f"collection {live.name}, vector {live.vector}"
        if self.pipeline.recipe.model.frozen:
            known = np.asarray(self.pipeline.vectors[rows])
        else:
            known = self._encoder.encode_passages([passages.contents[row] for row in rows.tolist()])
        if found.shape == known.shape and cosines(found, known).min() >= SAME:
            return
        raise InputError(
            f"{what} holds other vectors than those of run {self.pipeline.recipe.name}: give the "
            "alias back to its collection, or run train.py with another index.alias"
        )


def live_retriever(
    model: str | Path,
    collection: str,
    *,
    vector: str | None = None,
    id: str | None = None,
    **given: Any,
) -> retrieval.DenseRetriever:
    """Searches a Weaviate collection, or what an alias names, with a model that `train.py` wrote.

    `vector` and `id` are as a recipe's `index.vector` and `index.id`, and unset as the model knows
    them; `given` goes to the model's `from_pretrained`. A query encoder knows a sample of the
    vectors that it was adapted to: raises InputError for a collection that holds others, as for one
    that is not there.
    """
    encoder = modeling.load_query_encoder(model, **given)
    space = encoder.space
    if space:
        vector, id = vector or space.vector, id or space.id
    try:
        index = retrieval.open_live(
            IndexSettings(backend="weaviate", collection=collection, vector=vector, id=id)
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
