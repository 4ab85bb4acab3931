"""The Prometheus metrics of the knowledge graph."""

from __future__ import annotations

from prometheus_client import Counter, Gauge

from ranker.knowledge.graph import KnowledgeGraph
from streams.metrics import from_zero

records = Counter(
    "afterclick_knowledge_records_total",
    "Records of the topic knowledge that a worker read: 'new', 'unchanged', 'deleted', 'unknown' (a null value for a "
    "triple that is not there) or 'full' (there is no room, see AFTERCLICK_CANDIDATES__MAX_TRIPLES); each worker reads "
    "all",
    ["outcome"],
)
from_zero(records, ("new", "unchanged", "deleted", "unknown", "full"))
triples = Gauge(
    "afterclick_knowledge_triples", "Triples in the knowledge graph, those of items' entities and names among them"
)
nodes = Gauge("afterclick_knowledge_nodes", "Nodes of the knowledge graph")
limits = Counter(
    "afterclick_knowledge_limits_total",
    "Times that a limit stopped a part of a search: 'hub': a node with too many edges was not followed; 'edges': a "
    "step had too many edges to follow all",
    ["limit"],
)
from_zero(limits, ("hub", "edges"))


def observe_searches(graph: KnowledgeGraph) -> None:
    """Add what the graph has counted since the last call."""
    limits.labels("hub").inc(graph.hubs)
    limits.labels("edges").inc(graph.cut)
    graph.hubs = graph.cut = 0
