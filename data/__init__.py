"""The steps from a corpus to training data, one module and one artifact each."""

from tercet.data.corpus import write_corpus as write_corpus
from tercet.data.embeddings import (
    embed_passages as embed_passages,
    id_blocks as id_blocks,
    read_vectors as read_vectors,
    store_vectors as store_vectors,
)
from tercet.data.gate import check_gate as check_gate, halves as halves
from tercet.data.look import Choices as Choices, Look as Look, inspect_files as inspect_files
from tercet.data.negatives import mine_candidates as mine_candidates
from tercet.data.passages import Passages as Passages
from tercet.data.queries import generate_queries as generate_queries
from tercet.data.scorers import (
    DenseScorer as DenseScorer,
    KnownScorer as KnownScorer,
    MixedScorer as MixedScorer,
)
from tercet.data.scores import (
    score_candidates as score_candidates,
    score_pairs as score_pairs,
    write_lists as write_lists,
)
from tercet.data.spans import SpanGenerator as SpanGenerator
from tercet.data.targets import write_targets as write_targets
from tercet.data.triplets import (
    Filters as Filters,
    Triplets as Triplets,
    build_triplets as build_triplets,
    known_items as known_items,
    sources_of as sources_of,
    warnings_of as warnings_of,
)
