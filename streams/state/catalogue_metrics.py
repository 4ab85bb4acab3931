"""The Prometheus metrics of the catalogue's feed, and of how well the encoder reads the catalogue."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from streams.metrics import from_zero

catalogue_records = Counter(
    "afterclick_catalogue_records_total",
    "Records of items that a worker took into its catalogue: 'new', 'changed', 'unchanged', which costs nothing, or "
    "'deleted'; every worker reads all of them",
    ["outcome"],
)
from_zero(catalogue_records, ("new", "changed", "unchanged", "deleted"))
catalogue_vectors = Gauge(
    "afterclick_catalogue_vectors",
    "Items of the catalogue that have a vector of this name, of the names in AFTERCLICK_CANDIDATES__SPACES",
    ["name"],
)
unknown_tokens = Gauge(
    "afterclick_catalogue_unknown_tokens_ratio",
    "Share of the tokens of a sample of items that the encoder's vocabulary does not have",
)
same_vectors = Gauge(
    "afterclick_catalogue_same_vectors_ratio",
    "Share of the pairs of items of a sample, with different texts, whose vectors have a cosine above .999",
)
