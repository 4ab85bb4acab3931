"""SASRec with the full softmax: self-attention over the user's sequence, trained to predict each next item of all.

Kang and McAuley, "Self-attentive sequential recommendation" (ICDM 2018), but for its loss: their one sampled negative
makes the network overconfident, and the cross-entropy over the whole catalogue is what makes it strong (Klenitskiy and
Vasilev, "Turning dross into gold loss", RecSys 2023; Petrov and Macdonald, RecSys 2023).

How to check it: MovieLens-1M, leave-one-out in the order of the file's time stamps, full catalogue: NDCG@10 about .18
with this loss where the sampled one gives .13 (the first paper's SASRec+, 200 items a sequence, 2 blocks, 64
dimensions, dropout .2). Write the ratings as clicks and the titles as items, one message a line, and run
`afterclick evaluate --items items.jsonl --clicks clicks.jsonl --protocol leave-one-out --leaky-split --systems sasrec
--max-minutes 120`. The papers' split is leaky, so a comparison with them needs `--leaky-split`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ranker import processes
from ranker.evaluation.baselines.method import Events, Grid, Ints, Method, Query, Scores

LENGTH = 100
"""Items of a sequence; half of the paper's 200 for MovieLens, whose users have more: time grows with it."""
BATCH, PART = 64, 16
"""Sequences of a step, and of what one process computes at a time."""
LEAST_STEPS = 300
"""A small log is gone through more often than the setting says: 16 epochs of one batch teach nothing."""
HEADS = 2
LEARNING_RATE = 1e-3
"""The paper's."""


class SasRec(Method):
    """Trained until its epochs or its seconds are over. A second fit continues from the weights of the first.

    Of several processes the first one fits; `follow` lets the others take their shares.
    """

    name = "sasrec"
    grid: ClassVar[Grid] = {"epochs": (16, 8, 32), "dropout": (0.2, 0.5), "dim": (64, 128), "blocks": (2, 1)}
    staleness = 0.25

    def fit(self, events: Events) -> None:
        if not hasattr(self, "_network"):
            torch.manual_seed(self.budget.seed)
            self._network = _Network(
                self.corpus.items, self.setting["dim"], self.setting["blocks"], self.setting["dropout"]
            )
            self._training = _Training(self._network, self.setting["epochs"], self.budget.seed)
            self.trained_events = 0
        # new events get as many epochs as the first ones: to continue never costs more than to begin again
        new = len(events) - self.trained_events
        self.trained_events = len(events)
        seconds = self.budget.seconds * new / self.budget.events
        self._epochs_left = self.setting["epochs"] * new / max(len(events), 1)
        processes.from_first((self._training, events, self._epochs_left))
        self._epochs_left = self._training.run(events, self._epochs_left, time.monotonic() + seconds)

    @torch.inference_mode()
    def scores(self, queries: Sequence[Query]) -> Scores:
        self._network.eval()
        ids = np.zeros((len(queries), LENGTH), np.int64)
        for row, query in zip(ids, queries, strict=True):
            newest = query.history.item[-LENGTH:] + 1
            row[LENGTH - len(newest) :] = newest
        last = self._network(torch.from_numpy(_trimmed(ids)))[:, -1]
        probability: Scores = torch.log_softmax(self._network.logits(last), -1).numpy()
        return probability

    def account(self) -> str:
        bound = "" if self._epochs_left <= 0 else ", then its time was over"
        return f"trained {self._training.epochs_done:.1f} epochs{bound}"


def follow() -> None:
    """Take a share of every fit of the first process, until it calls `release`."""
    while (fit := processes.from_first(None)) is not None:
        training, events, epochs = fit
        training.run(events, epochs, float("inf"))


def release() -> None:
    """Let the processes that follow go on: there is no further fit."""
    processes.from_first(None)


class _Training:
    """A network in training, and its optimiser.

    A step takes a batch in parts of `PART` sequences, each with a dropout of its own seed. So the parts may be computed
    in any process.
    """

    def __init__(self, network: _Network, epochs: int, seed: int) -> None:
        self._network, self._epochs, self._seed = network, epochs, seed
        self._optimiser = torch.optim.Adam(network.parameters(), LEARNING_RATE, betas=(0.9, 0.98))
        self._steps = 0
        self.epochs_done = 0.0

    def run(self, events: Events, epochs: float, end_s: float) -> float:
        """Train. Returns how many epochs were left when the time was over."""
        random = np.random.default_rng([self._seed, len(events)])
        self._network.train()
        while epochs > 0 and not processes.is_over(end_s):
            batches = _batches(_sequences(events, random), random)
            step = min(1 / max(len(batches), 1), self._epochs / LEAST_STEPS)
            for batch in batches:
                if epochs <= 0 or processes.is_over(end_s):
                    break
                self._step(torch.from_numpy(batch))
                epochs -= step
                self.epochs_done += 1 / len(batches)
            if not batches:
                break
        return epochs

    def _step(self, ids: Tensor) -> None:
        """Learn from (batch, length) ids."""
        targets = (ids[:, 1:] > 0).sum()
        parts = torch.split(ids, PART)
        self._optimiser.zero_grad()
        for number in range(processes.rank(), len(parts), processes.count()):
            part = parts[number]
            torch.manual_seed(int(np.random.default_rng([self._seed, self._steps, number]).integers(2**63)))
            states = self._network(part[:, :-1])
            is_target = part[:, 1:] > 0
            logits, following = self._network.logits(states[is_target]), part[:, 1:][is_target] - 1
            loss = nn.functional.cross_entropy(logits, following, reduction="sum") / targets
            loss.backward()  # type: ignore[no-untyped-call]
        processes.sum_gradients(list(self._network.parameters()))
        self._optimiser.step()
        self._steps += 1


class _Network(nn.Module):
    """Item and position embeddings, blocks of causal self-attention, and the item embeddings again for the output."""

    def __init__(self, items: int, dim: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(LENGTH, dim)
        for embedding in (self.item, self.position):
            nn.init.normal_(embedding.weight, std=0.02)
        self.drop = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(dim, HEADS, dim, dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, blocks, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) ids, 0 for none, the newest last -> (batch, length, dim)."""
        length = ids.shape[1]
        positions = torch.arange(LENGTH - length, LENGTH)
        causal = nn.Transformer.generate_square_subsequent_mask(length)
        # padding is not masked: a row of padding alone would be NaN, and padding has a zero embedding
        hidden: Tensor = self.blocks(self.drop(self.item(ids) + self.position(positions)), mask=causal, is_causal=True)
        return hidden

    def logits(self, states: Tensor) -> Tensor:
        """(n, dim) -> (n, items)."""
        return states @ self.item.weight[1:].T


def _sequences(events: Events, random: np.random.Generator) -> Ints:
    """(n, LENGTH + 1) ids, item + 1, of pieces of users' sequences; 0 in front of a short one.

    Each call draws other borders of the pieces, and another order of events of the same time, since they have no order.
    """
    order = np.lexsort((random.random(len(events)), events.time_ms, events.user))
    users, ids = events.user[order], events.item[order] + 1
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    ends = np.append(begins[1:], len(users))
    rows: list[Ints] = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        rows.extend(ids[first:last] for first, last in _pieces(begin, end, random) if last - first > 1)
    sequences = np.zeros((len(rows), LENGTH + 1), np.int64)
    for index, row in enumerate(rows):
        sequences[index, LENGTH + 1 - len(row) :] = row
    return sequences


def _batches(sequences: Ints, random: np.random.Generator) -> list[Ints]:
    """Batches of sequences of about the same length, without the columns that are empty in all of them."""
    lengths = np.count_nonzero(sequences, axis=1) * random.uniform(0.8, 1.2, len(sequences))
    order = lengths.argsort()
    batches = [_trimmed(sequences[order[begin : begin + BATCH]]) for begin in range(0, len(order), BATCH)]
    return [batches[index] for index in random.permutation(len(batches))]


def _trimmed(ids: Ints) -> Ints:
    used = (ids > 0).any(0)
    return ids[:, int(used.argmax()) if used.any() else -1 :]


def _pieces(begin: int, end: int, random: np.random.Generator) -> Iterator[tuple[int, int]]:
    """Pieces of at most LENGTH + 1 that overlap by one, the last of random length so that borders move."""
    last = end if end - begin <= LENGTH + 1 else end - int(random.integers(0, LENGTH))
    if last < end:
        yield max(begin, last - 1), end
    while last - begin > 1:
        first = max(begin, last - LENGTH - 1)
        yield first, last
        last = first + 1 if first > begin else begin
