"""Indexes, retrievers, metrics and significance."""

from tercet.retrieval.bm25 import BM25Retriever as BM25Retriever
from tercet.retrieval.exact_index import ExactIndex as ExactIndex
from tercet.retrieval.indexes import SharedIndex as SharedIndex
from tercet.retrieval.indexes import describe_faiss as describe_faiss
from tercet.retrieval.indexes import drop_leftovers as drop_leftovers
from tercet.retrieval.indexes import is_published as is_published
from tercet.retrieval.indexes import make_index as make_index
from tercet.retrieval.indexes import open_live as open_live
from tercet.retrieval.indexes import publish as publish
from tercet.retrieval.indexes import read_collection as read_collection
from tercet.retrieval.latency import TOP as TOP
from tercet.retrieval.latency import time_searches as time_searches
from tercet.retrieval.metrics import evaluate as evaluate
from tercet.retrieval.retrievers import DenseRetriever as DenseRetriever
from tercet.retrieval.retrievers import HybridRetriever as HybridRetriever
from tercet.retrieval.retrievers import RerankedRetriever as RerankedRetriever
from tercet.retrieval.search import read_figures as read_figures
from tercet.retrieval.search import search_and_measure as search_and_measure
from tercet.retrieval.search import write_figures as write_figures
from tercet.retrieval.significance import bootstrap_mean as bootstrap_mean
from tercet.retrieval.significance import paired_bootstrap as paired_bootstrap
from tercet.retrieval.vector_files import KnownQueries as KnownQueries
from tercet.retrieval.vector_files import gather_vectors as gather_vectors
from tercet.retrieval.vector_files import parquet_blocks as parquet_blocks
from tercet.retrieval.vector_files import read_parquet_vectors as read_parquet_vectors
