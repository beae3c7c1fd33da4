"""A model folder and the live collection that it belongs to, together a retriever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tercet import modeling, retrieval
from tercet.config.recipe import IndexSettings
from tercet.core.schema import InputError


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
