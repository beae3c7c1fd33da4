"""Indexes, retrievers, metrics and significance."""

from tercet.retrieval.bm25 import BM25Retriever as BM25Retriever
from tercet.retrieval.exact_index import ExactIndex as ExactIndex
from tercet.retrieval.fusion import (
    FUSED as FUSED,
    HybridRetriever as HybridRetriever,
    fuse as fuse,
)
from tercet.retrieval.indexes import (
    SharedIndex as SharedIndex,
    deployed as deployed,
    describe_faiss as describe_faiss,
    drop_leftovers as drop_leftovers,
    is_published as is_published,
    make_index as make_index,
    open_live as open_live,
    publish as publish,
    read_collection as read_collection,
    try_out as try_out,
)
from tercet.retrieval.latency import TOP as TOP, time_searches as time_searches
from tercet.retrieval.metrics import evaluate as evaluate
from tercet.retrieval.retrievers import (
    DenseRetriever as DenseRetriever,
    RerankedRetriever as RerankedRetriever,
)
from tercet.retrieval.search import (
    deeper as deeper,
    measured as measured,
    read_figures as read_figures,
    search_and_measure as search_and_measure,
    search_deep as search_deep,
    write_figures as write_figures,
)
from tercet.retrieval.significance import (
    bootstrap_mean as bootstrap_mean,
    paired_bootstrap as paired_bootstrap,
)
from tercet.retrieval.vector_files import (
    KnownQueries as KnownQueries,
    gather_vectors as gather_vectors,
    parquet_blocks as parquet_blocks,
    read_parquet_vectors as read_parquet_vectors,
)
