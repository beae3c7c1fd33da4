"""A model folder and the live collection that it belongs to, together a retriever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tercet import modeling, retrieval
from tercet.recipe import IndexSettings
from tercet.schema import InputError


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
    if encoder.space:
        vector, id = vector or encoder.space.vector, id or encoder.space.id
    index = retrieval.open_live(
        IndexSettings(backend="weaviate", collection=collection, vector=vector, id=id)
    )
    try:
        if encoder.space:
            place = f"collection {index.name}, vector {index.vector}"
            encoder.space.check(place, index.vectors_of)
        elif encoder.dimension != index.dimension:
            raise InputError(
                f"{model} makes vectors of {encoder.dimension} dimensions, and collection "
                f"{index.name} holds {index.dimension}: name the one that it was adapted to"
            )
    except BaseException:
        index.discard()
        raise
    return retrieval.DenseRetriever(encoder, index)
