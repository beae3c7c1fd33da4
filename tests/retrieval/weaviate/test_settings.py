"""The table of Weaviate's index kinds and the kinds that a recipe may name."""

from __future__ import annotations

from typing import get_args

from tercet.config.index import IngestKind, WeaviateKind
from tercet.retrieval.weaviate.settings import KINDS, NEEDS


def test_the_table_describes_exactly_the_kinds_of_a_recipe() -> None:
    assert tuple(KINDS) == get_args(WeaviateKind)
    assert set(get_args(WeaviateKind)) - set(get_args(IngestKind)) == {"hfresh"}
    assert set(NEEDS) - {"aliases"} <= set(KINDS)
    assert len({facts.meaning for facts in KINDS.values()}) == len(KINDS)
