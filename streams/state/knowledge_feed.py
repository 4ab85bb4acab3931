"""Feed the knowledge graph from the topic `knowledge`, which every worker reads whole. Knows no event of a user."""

from __future__ import annotations

import asyncio

from ranker.knowledge.graph import KnowledgeGraph
from streams.contracts import Triple
from streams.kafka.compacted_reader import Records
from streams.kafka.record_reader import RecordReader
from streams.receive import triples
from streams.receive.message import BadMessage, Tombstone
from streams.state import knowledge_metrics

RECORDS_PER_TURN = 64
"""Records before events get a turn: a few milliseconds."""


class KnowledgeFeed:
    """Puts triples into a graph.

    Parameters
    ----------
    graph : KnowledgeGraph
    reader : RecordReader
        Decodes the triples. The state tier's own reading of the topic dead-letters the bad ones.
    """

    def __init__(self, graph: KnowledgeGraph, reader: RecordReader) -> None:
        self._graph = graph
        self._reader = reader

    async def put(self, records: Records) -> None:
        """Take in a batch of the topic, in its order."""
        await self._reader.prepare(records)
        for number, record in enumerate(records):
            try:
                received = self._reader.read(record)
            except BadMessage:
                continue
            for one in received:
                knowledge_metrics.records.labels(self._outcome(one.decoded)).inc()
            if number % RECORDS_PER_TURN == 0:
                await asyncio.sleep(0)
        knowledge_metrics.triples.set(len(self._graph))
        knowledge_metrics.nodes.set(self._graph.nodes)

    def notes(self) -> list[str]:
        """Tell an operator that the graph is full. Any thread may call this."""
        if len(self._graph) < self._graph.max_triples:
            return []
        return [
            f"state: the knowledge graph is full: got {self._graph.max_triples:,} triples, and further ones are left "
            "out; raise AFTERCLICK_CANDIDATES__MAX_TRIPLES, or delete some"
        ]

    def _outcome(self, decoded: object) -> str:
        if isinstance(decoded, Tombstone):
            triple = triples.deleted(decoded)
            return "deleted" if self._graph.delete(triple.head, triple.relation, triple.tail) else "unknown"
        if not isinstance(decoded, Triple):
            raise TypeError(f"got a {type(decoded).__name__}, expected a triple")
        return self._graph.put(decoded.head, decoded.relation, decoded.tail)
