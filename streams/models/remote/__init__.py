"""A reranker that a server has, as a scorer: any server whose `/rerank` has one of the two common contracts."""
