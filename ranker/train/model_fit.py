"""Fine-tune a scorer on query groups: a packed encoder, a cross-encoder or a decoder LLM, in full or by LoRA.

A scorer is trained through the code that serves it, so it reads in production what it was trained on, truncated at the
same tokens. Each step takes a group's relevant candidates (with a teacher, its best ten) and some of the others, the
hard negatives that recall found. Early stopping keeps the best weights by the newer groups; a checkpoint at each
validation lets a stopped run continue. Where time is short, as for a decoder on a CPU, the measured cost of a step and
of a validation says how many there will be, so that the learning rate ends with the time. Of several processes each
computes the gradients of its share of every batch. Knows no log.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from encoders.interest import Vector
from ranker import processes
from ranker.progress import Progress
from ranker.score import ScoreRequest
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.losses import Loss
from ranker.train.pace import seconds_per_group
from ranker.train.query_groups import QueryGroups
from ranker.train.schedule import batch_size, batches, evenly_spaced, order_of, rate_factor
from ranker.train.scoring import score
from ranker.train.trainable import Trainable, make_trainable, merged

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4, "distillation": 1e-4}
"""The usual rates of BERT's fine-tuning (Devlin et al. 2019) and of LoRA's (Hu et al. 2022). A student has a longer way
to go, and learns from every candidate: chosen by us."""
CANDIDATES = 16
"""Of a group in training, relevant ones first, at most half of them; chosen by us: more groups teach more than longer
ones."""
VALIDATIONS = 8
"""Per epoch, at most: on a CPU an epoch is long, and the best step may be in its middle."""
VALIDATION_GROUPS = 200
VALIDATION_SHARE = 0.04
"""Of the time for tuning, at most, for each validation; chosen by us: all of them take a third of it."""
MIN_VALIDATION_GROUPS = 20
PATIENCE = 5
"""Validations without a better NDCG@10 before it stops."""


@dataclass(frozen=True)
class TuningSettings:
    """How to fine-tune.

    Attributes
    ----------
    loss : Loss
        Of the relevance labels, or of a teacher's scores where there are any.
    epochs : int
        At most.
    deadline : float
        No further step begins once the first process's `time.monotonic()`, in seconds, has passed it.
    seed : int
    lora : bool
        Train new weights of low rank instead of all weights.
    """

    loss: Loss
    epochs: int
    deadline: float
    seed: int
    lora: bool = False


@dataclass(frozen=True)
class TuningData:
    """What to fine-tune on.

    Attributes
    ----------
    training, validation : QueryGroups
        The older groups and the newer ones.
    targets : (training groups, width) float32, or None
        A teacher's scores of the training groups, to be learnt in place of the labels.
    """

    training: QueryGroups
    validation: QueryGroups
    targets: Vector | None = None


def fine_tune(
    scorer: Trainable, data: TuningData, settings: TuningSettings, checkpoint: Checkpoint, progress: Progress
) -> list[Epoch]:
    """Train in place and leave the best weights in the scorer.

    Parameters
    ----------
    scorer : Trainable
    data : TuningData
    settings : TuningSettings
    checkpoint : Checkpoint
        Of this run; if the run was stopped before, it continues from its last validation.
    progress : Progress
        In steps.

    Returns
    -------
    list of Epoch
        The curve, a point per validation.
    """
    tuning = _FineTuning(scorer, data, settings)
    tuning.restore(checkpoint)
    while not tuning.is_over:
        tuning.step()
        if tuning.validation_is_due:
            tuning.validate()
            tuning.save(checkpoint)
        progress(tuning.steps_done, tuning.steps)
    if tuning.is_unsaved:
        tuning.validate()
        tuning.save(checkpoint)
    return tuning.finish()


class _FineTuning:
    """A run of fine-tuning: the weights, the optimiser, the order of the steps, and the best weights so far."""

    def __init__(self, scorer: Trainable, data: TuningData, settings: TuningSettings) -> None:
        torch.manual_seed(settings.seed)
        self._scorer, self._data, self._settings = scorer, data, settings
        self._adapted = make_trainable(scorer, settings.lora)
        self._weights = [weight for weight in scorer.model.parameters() if weight.requires_grad]
        kind = "lora" if settings.lora else "full" if data.targets is None else "distillation"
        self._learning_rate = LEARNING_RATE[kind]
        self._optimiser = torch.optim.AdamW(self._weights, lr=self._learning_rate)
        self._order = order_of(data.training, settings.epochs, settings.seed)
        self._batches = batches(self._order)
        self._epoch_steps = max(1, self.steps // max(1, settings.epochs))
        self._step_s = self._validation_s = 0.0
        self._validation = data.validation[evenly_spaced(len(data.validation), self._validation_groups())]
        self._losses: list[float] = []
        self._curve: list[Epoch] = []
        self._best, self._best_ndcg, self._best_index = _copy(self._weights), -1.0, -1
        self.steps_done = self._groups_done = 0

    @property
    def steps(self) -> int:
        return len(self._batches)

    @property
    def is_over(self) -> bool:
        out_of_patience = len(self._curve) - 1 - self._best_index >= PATIENCE
        last = self._step_s + (self._validation_s if self._step_s else 0.0)
        return self.steps_done == self.steps or out_of_patience or processes.is_over(self._settings.deadline - last)

    @property
    def is_unsaved(self) -> bool:
        return bool(self._losses)

    @property
    def validation_is_due(self) -> bool:
        often = max(1, math.ceil(min(self._epoch_steps, self.steps) / VALIDATIONS))
        return self.steps_done % often == 0 or self.steps_done == self.steps

    def step(self) -> None:
        """Learn from the next batch."""
        started = time.monotonic()
        number, seed = self.steps_done, self._settings.seed
        batch = self._batches[number]
        self._scorer.model.train()
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate * rate_factor(number, self.steps)
        self._optimiser.zero_grad()
        total = np.zeros(1, np.float32)
        for index in batch[processes.rank() :: processes.count()].tolist():
            rng = np.random.default_rng([seed, number, index])
            torch.manual_seed(int(rng.integers(2**63)))  # the same dropout in a resumed run, and in any process
            loss = self._loss(index, rng)
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        processes.sum_gradients(self._weights)
        processes.sum_array(total)
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()
        self._losses.append(float(total[0]) / len(batch))
        self.steps_done += 1
        self._groups_done += len(batch)
        if not self._step_s:
            self._step_s = processes.from_first(time.monotonic() - started)
            self._plan(self._step_s / len(batch))

    def validate(self) -> None:
        """Add a point to the curve, and keep the weights if they are the best so far."""
        ndcg = self._validation_ndcg()
        self._curve.append(Epoch(float(np.mean(self._losses)), ndcg))
        self._losses = []
        if ndcg > self._best_ndcg:
            self._best, self._best_ndcg, self._best_index = _copy(self._weights), ndcg, len(self._curve) - 1

    def finish(self) -> list[Epoch]:
        """Put the best weights into the scorer, ready to serve. Returns the curve."""
        _assign(self._weights, self._best)
        if self._adapted is not None:
            self._scorer.model = merged(self._adapted)
        self._scorer.model.eval().requires_grad_(False)
        return self._curve

    def save(self, checkpoint: Checkpoint) -> None:
        if not processes.is_first():
            return
        checkpoint.save_tuning(
            {
                "curve": [(epoch.loss, epoch.ndcg) for epoch in self._curve],
                "best": self._best,
                "best_ndcg": self._best_ndcg,
                "best_index": self._best_index,
                "steps_done": self.steps_done,
                "groups_done": self._groups_done,
                "validation_groups": len(self._validation),
                "weights": _copy(self._weights),
                "optimiser": self._optimiser.state_dict(),
            }
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from what the checkpoint holds; if nothing, measure the weights as they are."""
        state = checkpoint.tuning()
        if state is None:
            self._best_ndcg = self._validation_ndcg()
            return
        self._curve = [Epoch(*point) for point in state["curve"]]
        self._best, self._best_ndcg, self._best_index = state["best"], state["best_ndcg"], state["best_index"]
        self.steps_done, self._groups_done = state["steps_done"], state["groups_done"]
        self._batches = [self._order[:0]] * self.steps_done + batches(self._order[self._groups_done :])
        self._validation = self._data.validation[evenly_spaced(len(self._data.validation), state["validation_groups"])]
        self._optimiser.load_state_dict(state["optimiser"])
        _assign(self._weights, state["weights"])

    def _validation_groups(self) -> int:
        """How many groups validate: fewer where a scorer is slow."""
        left = processes.from_first(self._settings.deadline - time.monotonic())
        self._scorer.model.eval()
        seconds = processes.from_first(seconds_per_group(self._scorer, self._data.validation))
        count = int(np.clip(VALIDATION_SHARE * left / max(seconds, 1e-9), MIN_VALIDATION_GROUPS, VALIDATION_GROUPS))
        self._validation_s = seconds * min(count, len(self._data.validation))
        return count

    def _plan(self, group_s: float) -> None:
        """Leave out the groups for which there is no time, at so many seconds each, and make smaller steps of few."""
        left = processes.from_first(self._settings.deadline - time.monotonic())
        each_validated = min(VALIDATIONS, left / (group_s + self._validation_s))
        rest = self._order[self._groups_done :]
        possible = int(min(len(rest), max(0, each_validated, (left - VALIDATIONS * self._validation_s) / group_s)))
        if possible < len(rest):
            size = batch_size(possible, processes.count())
            self._batches = self._batches[: self.steps_done] + batches(rest[:possible], size)
            self._step_s = group_s * size

    def _loss(self, index: int, rng: np.random.Generator) -> torch.Tensor:
        """The loss of one training group, over some of its candidates."""
        groups, targets = self._data.training, self._data.targets
        request, labels = groups.request(index), groups.labels[index]
        relevant = rng.permutation(np.flatnonzero(labels))[: CANDIDATES // 2]
        irrelevant = rng.permutation(np.flatnonzero(~labels & groups.is_candidate[index]))
        columns = [*relevant.tolist(), *irrelevant[: CANDIDATES - len(relevant)].tolist()]
        scores = self._scorer.differentiable(
            ScoreRequest(request.context, [request.candidates[column] for column in columns])
        )
        wanted = torch.from_numpy((labels if targets is None else targets[index])[columns]).to(scores.device)
        is_candidate = torch.ones_like(wanted, dtype=torch.bool)
        return self._settings.loss(scores[None].float(), wanted[None], is_candidate[None])

    def _validation_ndcg(self) -> float:
        self._scorer.model.eval()
        self._scorer.forget(None)  # contexts that were read with older weights
        if not len(self._validation):
            return 0.0
        return score(self._scorer, self._validation, float("inf"), lambda *_: None).ndcg()


def _copy(weights: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in weights]


def _assign(weights: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
