"""A finished run's retriever as a file of its own: what it searches, and what it must find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tercet import modeling, retrieval
from tercet.config.recipe import Recipe, SystemSettings
from tercet.core.artifacts import locked
from tercet.core.schema import Index, InputError
from tercet.data.sources import Joined
from tercet.data.sources.weaviate import WeaviateCollection
from tercet.evaluation.systems import Systems
from tercet.pipeline.components import Parts
from tercet.pipeline.pipeline import Pipeline
from tercet.serving.search import finished, served
from tercet.sharing.retriever_file import check_ours, write_passages, write_retriever

if TYPE_CHECKING:
    from tercet.retrieval.weaviate.live import LiveCollection

#: Test queries that the file keeps, and how many passages of each.
ASKED, DEPTH = 10, 10


def export_retriever(
    recipe: Recipe,
    path: Path | None = None,
    *,
    hub: str | None = None,
    revision: str | None = None,
    k: int = 10,
) -> list[Path]:
    """Write a LangChain retriever of the run's model and index; what was written.

    That is `path` (unset: `retriever.py` in the run's folder) and, unless a live collection has the
    texts, a folder of the passages beside it. The model is loaded from the run's folder, or where
    it was pushed to: `hub`, at a `revision`. Exact and FAISS indexes become exact search.
    Raises InputError for a run that is not finished, and for a model behind an API.
    """
    path = path or recipe.folder / "retriever.py"
    check_exportable(recipe, path, k)
    with locked(recipe.folder):
        return export(finished(recipe), path, model=hub, revision=revision, k=k)


def check_exportable(recipe: Recipe, path: Path, k: int = 1) -> None:
    """Raises InputError, before any work, for what no file can be of, or cannot be written."""
    if recipe.model.api:
        raise InputError(
            f"{recipe.model.name} answers behind {recipe.model.api}'s API, and a retriever's file "
            "has a local model: search with scripts/search.py"
        )
    if k < 1:
        raise InputError(f"--k is {k}: ask for at least 1 passage")
    if path.suffix != ".py":
        raise InputError(f"{path}: a retriever is a Python file: let its name end in .py")
    check_ours(path)


def export(
    pipeline: Pipeline,
    path: Path,
    *,
    model: str | None = None,
    revision: str | None = None,
    k: int = 10,
    exact: bool = False,
) -> list[Path]:
    """As `export_retriever`, of a finished run.

    The file looks for its model where `model` says, "./NAME" being beside it. `exact`: it searches
    exactly, with the vectors beside it, whatever the run's index is.
    """
    made = _Export(pipeline, path, exact)
    values = made.values() | {"K": k}
    if model:
        values |= {"MODEL": model, "REVISION": revision}
    write_retriever(path, made.kinds, values)
    return [path, *([made.folder] if values["PASSAGES"] else [])]


class _Export:
    """What the file of one run says."""

    def __init__(self, pipeline: Pipeline, path: Path, exact: bool) -> None:
        self.pipeline, self.recipe = pipeline, pipeline.recipe
        self.folder = path.with_name(f"{path.stem}.passages")
        # Half precision is for speed over millions; the file's queries, one by one, need none.
        precise = replace(self.recipe, model=replace(self.recipe.model, precision="fp32"))
        encoder = Parts(precise).adapted(pipeline.model.path)
        assert isinstance(encoder, modeling.BiEncoder)
        self.encoder = encoder
        live = self.recipe.index.backend == "weaviate" and not exact
        self.kinds = {"weaviate" if live else "exact"}
        if encoder.space or "weaviate" in self.kinds:
            self.kinds.add("space")

    def values(self) -> dict[str, Any]:
        """Every constant of the template, by name; the passages' folder is written."""
        config, folder = self.encoder.config, self.pipeline.model.path
        dense = [] if self.encoder.projection is None else [*folder.glob("*_Dense")]
        values = {
            "RUN": self.recipe.name,
            "MODEL": str(folder.resolve()),
            "QUERY_PROMPT": config.query_prompt,
            "LOWER_CASE": config.lower_case,
            "MAX_LENGTH": config.query_max_length,
            "POOLING": config.pooling,
            "DENSE": dense[0].name if dense else None,
            "DENSE_TAKES_UNIT_VECTORS": config.projected == "cosine",
            "SIMILARITY": config.similarity,
            "PASSAGES": self.folder.name,
        }
        if "space" in self.kinds:
            values["SPACE"] = "model" if self.encoder.space else "passages"
        return values | (self._exact() if "exact" in self.kinds else self._weaviate())

    def _exact(self) -> dict[str, Any]:
        pipeline = self.pipeline
        queries = pipeline.measured("test")[0]
        vectors = Systems(pipeline, [SystemSettings(kind="adapted")], queries).vectors("adapted")
        write_passages(self.folder, pipeline.passages, pipeline.passages.ids, vectors)
        index = retrieval.ExactIndex()
        index.build(pipeline.passages.ids, vectors)
        return {"EXPECTED": self._expected(index)}

    def _weaviate(self) -> dict[str, Any]:
        section, index = served(self.pipeline)
        try:
            texts = self._texts_there(index)
            if not any(texts.values()):
                passages = self.pipeline.passages
                write_passages(self.folder, passages, passages.ids, None)
                if not self.encoder.space:
                    self._sample(index, str(section.collection)).save(self.folder)
            return {
                "COLLECTION": section.collection,
                "VECTOR": index.vector,
                "VECTOR_IS_NAMED": index.named,
                "ID_PROPERTY": index.id_property,
                "ID_IS_NUMBER": index.numbered,
                "DISTANCE": index.metric,
                "MOST": index.most,
                "EXPECTED": self._expected(index),
                **texts,
                **({"PASSAGES": None} if any(texts.values()) else {}),
            }
        finally:
            index.discard()

    def _texts_there(self, index: LiveCollection) -> dict[str, str | None]:
        """The properties that hold texts and titles, where the collection is the corpus."""
        source = self.pipeline.parts.source
        corpus = source.source if isinstance(source, Joined) else None
        if not isinstance(corpus, WeaviateCollection) or corpus.reader.name != index.name:
            return {"TEXT_PROPERTY": None, "TITLE_PROPERTY": None}
        return {"TEXT_PROPERTY": corpus.text, "TITLE_PROPERTY": corpus.title or None}

    def _sample(self, index: LiveCollection, name: str) -> modeling.Space:
        """What tells the collection that was measured from another under its alias."""
        ids, similarity = self.pipeline.passages.ids, self.encoder.similarity
        rows = np.random.default_rng(0).permutation(len(ids))[:ASKED]
        sample = [ids[row] for row in rows.tolist()]
        place = f"Weaviate collection {name}"
        return modeling.Space(sample, index.vectors_of(sample), similarity, len(ids), place)

    def _expected(self, index: Index) -> list[tuple[str, list[tuple[str, float]]]]:
        """Some test queries with what the run's model and index find, in float32."""
        queries = self.pipeline.measured("test")[0]
        rows = np.random.default_rng(0).permutation(len(queries))[:ASKED]
        texts: Sequence[str] = [queries[row].text for row in sorted(rows.tolist())]
        rankings = index.search(self.encoder.encode_queries(texts), DEPTH)
        return [
            (text, [(id, round(score, 6)) for id, score in ranking])
            for text, ranking in zip(texts, rankings, strict=True)
        ]
