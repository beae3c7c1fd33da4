"""How a reranker's folder is read: its files, what a pair is to it, what its networks give."""
