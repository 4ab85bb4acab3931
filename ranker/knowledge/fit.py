"""Train the vectors of a knowledge graph: TransE, by PyTorch Geometric.

Why that library: it is alive (a release every few months), its wheel is 1.3 MB of Python, and what it needs is here
already. PyKEEN needs a score of packages beside it, and AmpliGraph a TensorFlow and a numpy of 2023, and no Python
after 3.11. Why TransE and not DistMult: where a new node belongs follows from its neighbours by an addition. Knows no
user.
"""

from __future__ import annotations

import time
import warnings
from typing import Any, NamedTuple

import numpy as np
import torch

from encoders.interest import Vector
from ranker.knowledge.graph import KnowledgeGraph
from ranker.progress import Progress

DIM = 32
"""Chosen by us: 64 bytes a node."""
MARGIN = 1.0
LEARNING_RATE = 0.01
BATCH, STEPS = 4_096, 64
"""Triples of a step: fewer where an epoch would have fewer steps than this."""
MAX_EPOCHS = 100
LEAST_GAIN = 0.01
"""An epoch that lowers the loss by a smaller share of it is the last one."""


class GraphVectors(NamedTuple):
    """What is trained.

    Attributes
    ----------
    vectors : (nodes, dim) float32
        Of `KnowledgeGraph.all_nodes`, unit length.
    translations : (relations, dim) float32
        Of `KnowledgeGraph.relations`.
    epochs : int
    loss : float
        Of the last epoch; of two random vectors it is near `MARGIN`.
    """

    vectors: Vector
    translations: Vector
    epochs: int
    loss: float


def fit(graph: KnowledgeGraph, seed: int, deadline: float, progress: Progress) -> GraphVectors:
    """Train until the loss falls no further.

    Parameters
    ----------
    graph : KnowledgeGraph
        With a triple at least.
    seed : int
    deadline : float
        After this time, in seconds of `time.monotonic()`, no step begins.
    progress : Progress
        In epochs.

    Raises
    ------
    ModuleNotFoundError
        PyTorch Geometric is not installed.
    """
    heads, relations, tails = graph.triples()
    nodes = graph.all_nodes()
    triples = torch.from_numpy(
        np.stack([np.searchsorted(nodes, heads), relations, np.searchsorted(nodes, tails)]).astype(np.int64)
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = _transe()(len(nodes), len(graph.relations), DIM, margin=MARGIN, p_norm=2.0, sparse=True)
        optimizer = torch.optim.SparseAdam(list(model.parameters()), lr=LEARNING_RATE)
        losses: list[float] = []
        while len(losses) < MAX_EPOCHS and time.monotonic() < deadline:
            losses.append(_epoch(model, optimizer, triples, deadline))
            progress(len(losses), MAX_EPOCHS)
            if len(losses) > 1 and losses[-1] > (1 - LEAST_GAIN) * losses[-2]:
                break
    with torch.no_grad():
        vectors = torch.nn.functional.normalize(model.node_emb.weight, dim=1).numpy()
        translations = model.rel_emb.weight.numpy()
    return GraphVectors(vectors, translations, len(losses), losses[-1] if losses else MARGIN)


def _epoch(model: Any, optimizer: torch.optim.Optimizer, triples: torch.Tensor, deadline: float) -> float:
    """Learn from all triples once. Returns the mean loss."""
    count = triples.shape[1]
    size = max(1, min(BATCH, count // STEPS))
    total, seen = 0.0, 0
    for batch in torch.split(torch.randperm(count), size):
        if time.monotonic() > deadline:
            break
        optimizer.zero_grad()
        loss = model.loss(*triples[:, batch])
        loss.backward()
        optimizer.step()
        total, seen = total + loss.item() * len(batch), seen + len(batch)
    return total / max(1, seen)


def _transe() -> Any:
    """Import the layer without TorchScript: it compiles layers that we do not use, and hung beside other libraries."""
    jit: Any = torch.jit._state
    enabled = jit._enabled.enabled
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit.script
        jit.disable()
        try:
            from torch_geometric.nn.kge import TransE
        finally:
            if enabled:
                jit.enable()
    return TransE
