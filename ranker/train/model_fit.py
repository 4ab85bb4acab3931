"""Fine-tune a scorer on lists: a packed encoder, a cross-encoder or a decoder LLM, in full or by LoRA.

Whatever the scorer, it is trained through the code that serves it, so it reads in production what it was trained on,
cut in the same places. A list is trained with its chosen candidates and some of the others, the hard negatives that
recall found; with a teacher, its best ten and some of the others. Early stopping keeps the best step on newer lists; a
checkpoint at each look lets it go on where it was stopped. Called by `afterclick train` and `compress`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from encoders.interest import Vector
from encoders.models import source as model_source
from ranker.score import Scorer, ScoreRequest
from ranker.scorers import template
from ranker.scorers.packed.yes_no_head import YesNoHead
from ranker.train.fusion_fit import Epoch
from ranker.train.lists import NOBODY, Lists, ndcg
from ranker.train.losses import Loss

LEARNING_RATE = {"full": 2e-5, "lora": 2e-4, "imitation": 1e-4}
"""The usual ones of BERT's fine-tuning (Devlin et al. 2019) and of LoRA's (Hu et al. 2022); a student has a longer way,
and learns from every candidate: chosen by us."""
WARM_UP = 0.1
BATCH_LISTS = 8
CANDIDATES = 16
"""Of a list in training, chosen ones first, at most half of them; chosen by us: more lists teach more than longer."""
LOOKS = 8
"""Looks at the validation part per epoch: on a CPU an epoch is long, and the best step may be in its middle."""
VALIDATION_LISTS = 200
PATIENCE = 5
LORA_RANK = 16

Progress = Callable[[int, int], None]


class Trainable(Scorer, Protocol):
    """A scorer whose scores have gradients."""

    model: Any

    def differentiable(self, request: ScoreRequest) -> torch.Tensor:
        """(len(candidates),) float32, as `score` gives them."""
        ...


@dataclass(frozen=True)
class Effort:
    """How much to learn: epochs at most, until `time.monotonic()` is `deadline`; `lora` instead of all weights."""

    epochs: int
    deadline: float
    seed: int
    lora: bool


def fine_tune(
    scorer: Trainable,
    training: Lists,
    validation: Lists,
    loss: Loss,
    effort: Effort,
    checkpoint: Path,
    progress: Progress,
    teacher: Vector | None = None,
) -> list[Epoch]:
    """Train in place and leave the best weights in the scorer. Returns the curve, a point per look.

    Parameters
    ----------
    loss : of what was chosen, or of the teacher's scores where there are such.
    checkpoint : a folder, for the caller to remove; where it holds one of a run that was stopped, that run goes on.
    teacher : (training lists, most) float32, scores to be imitated.
    """
    torch.manual_seed(effort.seed)
    adapted = _adapted(scorer, effort.lora)
    weights = [weight for weight in scorer.model.parameters() if weight.requires_grad]
    learning_rate = LEARNING_RATE["lora" if effort.lora else "full" if teacher is None else "imitation"]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate)
    epochs = [
        np.random.default_rng([effort.seed, epoch]).permutation(training.learnable) for epoch in range(effort.epochs)
    ]
    order = np.concatenate([np.empty(0, np.intp), *epochs])
    batches = [order[begin : begin + BATCH_LISTS] for begin in range(0, len(order), BATCH_LISTS)]
    per_look = max(1, len(batches) // max(1, effort.epochs) // LOOKS)
    looked_at = validation[_spread(len(validation), VALIDATION_LISTS)]
    state = _Run(curve=[], best=_copy(weights), best_ndcg=_validated(scorer, looked_at), best_look=-1, step=0)
    state.load(checkpoint, weights, optimiser)
    lost: list[float] = []
    for step in range(state.step, len(batches)):
        if time.monotonic() > effort.deadline or len(state.curve) - 1 - state.best_look >= PATIENCE:
            break
        scorer.model.train()
        torch.manual_seed(effort.seed * 1_000_003 + step)  # dropout as it would be had the run not been stopped
        for group in optimiser.param_groups:
            group["lr"] = learning_rate * _schedule(step, len(batches))
        optimiser.zero_grad()
        total = 0.0
        for place in batches[step].tolist():
            rng = np.random.default_rng([effort.seed, step, place])
            of_list = _loss(scorer, training, place, loss, None if teacher is None else teacher[place], rng)
            (of_list / len(batches[step])).backward()  # type: ignore[no-untyped-call]
            total += float(of_list.detach())
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()
        lost.append(total / len(batches[step]))
        if (step + 1) % per_look == 0 or step + 1 == len(batches):
            state.look(float(np.mean(lost)), _validated(scorer, looked_at), weights, step + 1)
            state.save(checkpoint, weights, optimiser)
            lost = []
        progress(step + 1, len(batches))
    with torch.no_grad():
        for weight, best in zip(weights, state.best, strict=True):
            weight.copy_(best)
    if adapted is not None:
        scorer.model = adapted.merge_and_unload()
    scorer.model.eval().requires_grad_(False)
    return state.curve


def save(scorer: Trainable, base: str, folder: Path) -> None:
    """Write the model in Hugging Face format, its tokeniser, and what `afterclick.json` says of its template."""
    source = model_source.fetch(base)
    model = scorer.model
    if _has_answer_head(model):
        from transformers import AutoModelForCausalLM

        model = AutoModelForCausalLM.from_pretrained(source, dtype=model.dtype)
        sizes = {name: weight.shape for name, weight in model.state_dict().items()}
        learnt = scorer.model.state_dict()
        model.load_state_dict({n: w for n, w in learnt.items() if sizes.get(n) == w.shape}, strict=False)
    model.save_pretrained(folder)
    model_source.load_tokenizer(base, source).save_pretrained(folder)
    if _has_answer_head(scorer.model) or (source / template.FILE).is_file():
        template.keep(source, folder)


def score(scorer: Scorer, lists: Lists, deadline: float, progress: Progress) -> Vector:
    """The scorer's scores, (lists scored, most) float32, 0 where a list has no candidate; fewer if time is up."""
    scores = np.zeros(lists.candidates.shape, np.float32)
    step = 16
    for begin in range(0, len(lists), step):
        if time.monotonic() > deadline:
            return scores[:begin]
        places = range(begin, min(begin + step, len(lists)))
        for place, found in zip(places, scorer.score([lists.request(place) for place in places]), strict=True):
            scores[place, : len(found)] = found
        progress(places[-1] + 1, len(lists))
    return scores


def _loss(
    scorer: Trainable, lists: Lists, place: int, loss: Loss, teacher: Vector | None, rng: np.random.Generator
) -> torch.Tensor:
    request, chosen = lists.request(place), lists.chosen[place]
    right = rng.permutation(np.flatnonzero(chosen))[: CANDIDATES // 2]
    wrong = rng.permutation(np.flatnonzero(~chosen & (lists.candidates[place] != NOBODY)))[: CANDIDATES - len(right)]
    taken = [*right.tolist(), *wrong.tolist()]
    scores = scorer.differentiable(ScoreRequest(request.context, [request.candidates[one] for one in taken]))
    wanted = torch.from_numpy((chosen if teacher is None else teacher)[taken]).to(scores.device)
    return loss(scores[None].float(), wanted[None], torch.ones_like(wanted, dtype=torch.bool)[None])


def _adapted(scorer: Trainable, lora: bool) -> Any:
    """Let the weights learn. With LoRA only new ones of low rank, beside every linear layer, and a new head."""
    if not lora:
        scorer.model.requires_grad_(True)
        if _has_answer_head(scorer.model):  # two rows of a head that is saved whole, and that may be the embeddings too
            scorer.model.get_output_embeddings().requires_grad_(False)
            scorer.model.get_input_embeddings().requires_grad_(False)
        return None
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=LORA_RANK,
        lora_alpha=2 * LORA_RANK,
        lora_dropout=0.05,
        target_modules="all-linear",
        task_type="CAUSAL_LM" if _has_answer_head(scorer.model) else "SEQ_CLS",  # whose head then learns whole
    )
    return get_peft_model(scorer.model, config)


def _has_answer_head(model: Any) -> bool:
    return isinstance(model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None, YesNoHead)


def _validated(scorer: Trainable, lists: Lists) -> float:
    scorer.model.eval()
    scorer.forget(None)  # contexts read with the weights of before
    return float(ndcg(score(scorer, lists, float("inf"), lambda *_: None), lists).mean()) if len(lists) else 0.0


def _schedule(step: int, steps: int) -> float:
    """Linear warm-up, then linearly to nothing."""
    warm = max(1, round(WARM_UP * steps))
    return min((step + 1) / warm, (steps - step) / max(1, steps - warm))


def _spread(count: int, most: int) -> np.ndarray[Any, np.dtype[np.intp]]:
    return np.unique(np.linspace(0, max(0, count - 1), min(count, most)).astype(np.intp))


def _copy(weights: list[torch.nn.Parameter]) -> list[torch.Tensor]:
    return [weight.detach().clone() for weight in weights]


@dataclass
class _Run:
    """Where a run is: what a checkpoint holds, beside weights and optimiser."""

    curve: list[Epoch]
    best: list[torch.Tensor]
    best_ndcg: float
    best_look: int
    step: int

    def look(self, loss: float, reached: float, weights: list[torch.nn.Parameter], step: int) -> None:
        self.curve.append(Epoch(loss, reached))
        self.step = step
        if reached > self.best_ndcg:
            self.best, self.best_ndcg, self.best_look = _copy(weights), reached, len(self.curve) - 1

    def save(self, folder: Path, weights: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        held = {
            "curve": [(epoch.loss, epoch.ndcg) for epoch in self.curve],
            "best": self.best,
            "best_ndcg": self.best_ndcg,
            "best_look": self.best_look,
            "step": self.step,
            "weights": _copy(weights),
            "optimiser": optimiser.state_dict(),
        }
        torch.save(held, folder / "new.pt")
        (folder / "new.pt").replace(folder / "run.pt")

    def load(self, folder: Path, weights: list[torch.nn.Parameter], optimiser: torch.optim.Optimizer) -> None:
        if not (folder / "run.pt").is_file():
            return
        held = torch.load(folder / "run.pt", weights_only=True)
        self.curve = [Epoch(*point) for point in held["curve"]]
        self.best, self.best_ndcg = held["best"], held["best_ndcg"]
        self.best_look, self.step = held["best_look"], held["step"]
        optimiser.load_state_dict(held["optimiser"])
        with torch.no_grad():
            for weight, kept in zip(weights, held["weights"], strict=True):
                weight.copy_(kept)
