"""Indexes, measures and what is said of them."""

from tercet.retrieval.bm25 import BM25Retriever as BM25Retriever
from tercet.retrieval.dense import DenseRetriever as DenseRetriever
from tercet.retrieval.exact import ExactIndex as ExactIndex
from tercet.retrieval.indexes import make_index as make_index
from tercet.retrieval.metrics import evaluate as evaluate
from tercet.retrieval.report import Report as Report
from tercet.retrieval.report import compare as compare
from tercet.retrieval.report import print_comparison as print_comparison
from tercet.retrieval.report import print_means as print_means
from tercet.retrieval.report import print_report as print_report
from tercet.retrieval.report import write_report as write_report
from tercet.retrieval.search import read_figures as read_figures
from tercet.retrieval.search import search_and_measure as search_and_measure
from tercet.retrieval.search import write_figures as write_figures
from tercet.retrieval.significance import paired_bootstrap as paired_bootstrap
