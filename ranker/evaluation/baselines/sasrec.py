"""SASRec with the full softmax: self-attention over the user's sequence, trained to predict each next item of all.

Kang and McAuley, "Self-attentive sequential recommendation" (ICDM 2018), but for its loss: their one sampled negative
makes the network overconfident, and the cross-entropy over the whole catalogue is what makes it strong (Klenitskiy and
Vasilev, "Turning dross into gold loss", RecSys 2023; Petrov and Macdonald, RecSys 2023).

How to check it: MovieLens-1M, leave-one-out in the order of the file's time stamps, full catalogue: NDCG@10 about .18
with this loss where the sampled one gives .13 (the first paper's SASRec+, 200 items a sequence, 2 blocks, 64
dimensions, dropout .2). Write the ratings as clicks and the titles as items, one message a line, and run
`afterclick evaluate --items items.jsonl --clicks clicks.jsonl --protocol leave-one-out --peek --systems sasrec
--max-minutes 120`; to compare with those papers, `--leaky-split` is needed: their training part is everybody's.

Called through `method.Method`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from ranker.evaluation.baselines.method import Events, Grid, Ints, Method, Query, Scores

LENGTH = 100
"""Items of a sequence; half of the paper's 200 for MovieLens, whose users have more: time grows with it."""
BATCH = 64
LEAST_STEPS = 300
"""A small log is gone through more often than the setting says: 16 epochs of one batch teach nothing."""
HEADS = 2
LEARNING_RATE = 1e-3
"""The paper's."""


class SasRec(Method):
    """Trained until its epochs or its seconds are over; fitted again, it goes on from where it was."""

    name = "sasrec"
    grid: ClassVar[Grid] = {"epochs": (16, 8, 32), "dropout": (0.2, 0.5), "dim": (64, 128), "blocks": (2, 1)}
    staleness = 0.25

    def fit(self, events: Events) -> None:
        torch.manual_seed(self.budget.seed)
        if not hasattr(self, "_network"):
            self._network = _Network(
                self.shop.items, self.setting["dim"], self.setting["blocks"], self.setting["dropout"]
            )
            self._optimiser = torch.optim.Adam(self._network.parameters(), LEARNING_RATE, betas=(0.9, 0.98))
            self.trained_events, self.trained_epochs = 0, 0.0
        # as many epochs over what is new as over the first: going on never costs more than to begin anew
        new = len(events) - self.trained_events
        self.trained_events = len(events)
        seconds = self.budget.seconds * new / self.budget.events
        self._train(events, self.setting["epochs"] * new / max(len(events), 1), time.monotonic() + seconds)

    def _train(self, events: Events, epochs: float, end_s: float) -> None:
        random = np.random.default_rng([self.budget.seed, len(events)])
        self._network.train()
        while epochs > 0 and time.monotonic() < end_s:
            batches = _batches(_sequences(events, random), random)
            step = min(1 / max(len(batches), 1), self.setting["epochs"] / LEAST_STEPS)
            for batch in batches:
                if epochs <= 0 or time.monotonic() >= end_s:
                    break
                ids = torch.from_numpy(batch)
                states = self._network(ids[:, :-1])
                known = ids[:, 1:] > 0
                loss = nn.functional.cross_entropy(self._network.logits(states[known]), ids[:, 1:][known] - 1)
                self._optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                self._optimiser.step()
                epochs -= step
                self.trained_epochs += 1 / len(batches)
            if not batches:
                break
        self._epochs_left = epochs

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
        return f"trained {self.trained_epochs:.1f} epochs{bound}"


class _Network(nn.Module):
    """Item and place embeddings, blocks of causal self-attention, and the items' embeddings again for the output."""

    def __init__(self, items: int, dim: int, blocks: int, dropout: float) -> None:
        super().__init__()
        self.item = nn.Embedding(items + 1, dim, padding_idx=0)
        self.place = nn.Embedding(LENGTH, dim)
        for embedding in (self.item, self.place):
            nn.init.normal_(embedding.weight, std=0.02)
        self.drop = nn.Dropout(dropout)
        layer = nn.TransformerEncoderLayer(dim, HEADS, dim, dropout, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, blocks, nn.LayerNorm(dim), enable_nested_tensor=False)

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, length) ids, 0 for none, the newest last -> (batch, length, dim)."""
        length = ids.shape[1]
        places = torch.arange(LENGTH - length, LENGTH)
        causal = nn.Transformer.generate_square_subsequent_mask(length)
        # nothing is masked as padding: a row of it alone would be NaN, and its zero embedding is learned as nothing
        hidden: Tensor = self.blocks(self.drop(self.item(ids) + self.place(places)), mask=causal, is_causal=True)
        return hidden

    def logits(self, states: Tensor) -> Tensor:
        """(n, dim) -> (n, items)."""
        return states @ self.item.weight[1:].T


def _sequences(events: Events, random: np.random.Generator) -> Ints:
    """(n, LENGTH + 1) ids, item + 1, of pieces of users' sequences; 0 in front of a short one.

    The pieces begin at another place each time, and events of one time are in another order each time: none is theirs.
    """
    order = np.lexsort((random.random(len(events)), events.time_ms, events.user))
    users, ids = events.user[order], events.item[order] + 1
    begins = np.flatnonzero(np.diff(users, prepend=-1))
    ends = np.append(begins[1:], len(users))
    rows: list[Ints] = []
    for begin, end in zip(begins.tolist(), ends.tolist(), strict=True):
        rows.extend(ids[first:last] for first, last in _pieces(begin, end, random) if last - first > 1)
    out = np.zeros((len(rows), LENGTH + 1), np.int64)
    for place, row in enumerate(rows):
        out[place, LENGTH + 1 - len(row) :] = row
    return out


def _batches(sequences: Ints, random: np.random.Generator) -> list[Ints]:
    """Sequences of about the same length together, without the places that all of them leave empty."""
    lengths = np.count_nonzero(sequences, axis=1) * random.uniform(0.8, 1.2, len(sequences))
    order = lengths.argsort()
    batches = [_trimmed(sequences[order[begin : begin + BATCH]]) for begin in range(0, len(order), BATCH)]
    return [batches[place] for place in random.permutation(len(batches))]


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
