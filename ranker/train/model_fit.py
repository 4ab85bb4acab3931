"""Fine-tune a scorer on query groups: a packed encoder, a cross-encoder or a decoder LLM, in full or by LoRA.

A scorer is trained through the code that serves it, so it reads in production what it was trained on, truncated at the
same tokens. Each step takes a group's relevant candidates (with a teacher, its best ten) and some of the others, the
hard negatives that recall found. Early stopping keeps the best weights by the newer groups; a checkpoint at each
validation lets a stopped run continue. Knows no log.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from encoders.interest import Vector
from ranker.progress import Progress
from ranker.score import ScoreRequest
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.losses import Loss
from ranker.train.query_groups import QueryGroups
from ranker.train.scoring import score
from ranker.train.trainable import Trainable, make_trainable

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4, "distillation": 1e-4}
"""The usual rates of BERT's fine-tuning (Devlin et al. 2019) and of LoRA's (Hu et al. 2022). A student has a longer way
to go, and learns from every candidate: chosen by us."""
WARM_UP = 0.1
BATCH_GROUPS = 8
CANDIDATES = 16
"""Of a group in training, relevant ones first, at most half of them; chosen by us: more groups teach more than longer
ones."""
VALIDATIONS = 8
"""Per epoch: on a CPU an epoch is long, and the best step may be in its middle."""
VALIDATION_GROUPS = 200
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
        No further step begins once `time.monotonic()`, in seconds, has passed it.
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
        self._batches = _batches(data.training, settings)
        self._steps_per_validation = max(1, self.steps // max(1, settings.epochs) // VALIDATIONS)
        self._validation = data.validation[_evenly_spaced(len(data.validation), VALIDATION_GROUPS)]
        self._losses: list[float] = []
        self._curve: list[Epoch] = []
        self._best, self._best_ndcg, self._best_index = _copy(self._weights), self._validation_ndcg(), -1
        self.steps_done = 0

    @property
    def steps(self) -> int:
        return len(self._batches)

    @property
    def is_over(self) -> bool:
        out_of_patience = len(self._curve) - 1 - self._best_index >= PATIENCE
        return self.steps_done == self.steps or out_of_patience or time.monotonic() > self._settings.deadline

    @property
    def validation_is_due(self) -> bool:
        return self.steps_done % self._steps_per_validation == 0 or self.steps_done == self.steps

    def step(self) -> None:
        """Learn from the next batch."""
        number, seed = self.steps_done, self._settings.seed
        batch = self._batches[number]
        self._scorer.model.train()
        torch.manual_seed(seed * 1_000_003 + number)  # a resumed run has the same dropout as one that was not stopped
        for group in self._optimiser.param_groups:
            group["lr"] = self._learning_rate * _schedule(number, self.steps)
        self._optimiser.zero_grad()
        total = 0.0
        for index in batch.tolist():
            loss = self._loss(index, np.random.default_rng([seed, number, index]))
            (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(self._weights, 1.0)
        self._optimiser.step()
        self._losses.append(total / len(batch))
        self.steps_done += 1

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
            self._scorer.model = self._adapted.merge_and_unload()
        self._scorer.model.eval().requires_grad_(False)
        return self._curve

    def save(self, checkpoint: Checkpoint) -> None:
        checkpoint.save_tuning(
            {
                "curve": [(epoch.loss, epoch.ndcg) for epoch in self._curve],
                "best": self._best,
                "best_ndcg": self._best_ndcg,
                "best_index": self._best_index,
                "steps_done": self.steps_done,
                "weights": _copy(self._weights),
                "optimiser": self._optimiser.state_dict(),
            }
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Continue from what the checkpoint holds, if anything."""
        state = checkpoint.tuning()
        if state is None:
            return
        self._curve = [Epoch(*point) for point in state["curve"]]
        self._best, self._best_ndcg, self._best_index = state["best"], state["best_ndcg"], state["best_index"]
        self.steps_done = state["steps_done"]
        self._optimiser.load_state_dict(state["optimiser"])
        _assign(self._weights, state["weights"])

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


def _batches(training: QueryGroups, settings: TuningSettings) -> list[npt.NDArray[np.intp]]:
    """Indices of the groups of each step, each epoch in another order."""
    epochs = [
        np.random.default_rng([settings.seed, epoch]).permutation(training.learnable)
        for epoch in range(settings.epochs)
    ]
    order = np.concatenate([np.empty(0, np.intp), *epochs])
    return [order[begin : begin + BATCH_GROUPS] for begin in range(0, len(order), BATCH_GROUPS)]


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then linear decay to 0: a factor of the learning rate."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _evenly_spaced(count: int, limit: int) -> npt.NDArray[np.intp]:
    """At most `limit` of the indices below `count`."""
    return np.unique(np.linspace(0, max(0, count - 1), min(count, limit)).astype(np.intp))


def _copy(weights: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in weights]


def _assign(weights: list[torch.nn.Parameter], values: list[torch.Tensor]) -> None:
    with torch.no_grad():
        for weight, value in zip(weights, values, strict=True):
            weight.copy_(value)
