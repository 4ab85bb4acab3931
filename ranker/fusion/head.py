"""The fusion head: a model's score and the behavioural features in, one score out; and its file.

Text alone is weak for users with a history, counters alone for items without one (CoLLM, Zhang et al. 2023), so a head
learns how much each counts, and when. It looks at one candidate at a time: a score depends on the user and that
candidate alone. `ranker.train` makes heads, `ranker.fusion.fused` puts one on a model, `ranker.fusion.online` trains it
while it serves.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from encoders.models import source as model_source
from ranker.features import NAMES, SCHEMA, Features

FILE = "fusion.safetensors"
INPUTS = 1 + len(NAMES)
"""The model's score, then the features."""
FARTHEST = 5.0
"""Standard deviations from the mean beyond which an input counts as that far: one odd value must not rule a list."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FusionHead:
    """`score = x w + tanh(x W + b) v`, with x the inputs standardised and cut at `FARTHEST`.

    The linear part says what counts, the hidden one when: a product of two inputs is out of a sum's reach.

    Attributes
    ----------
    mean, scale, linear : (INPUTS,) float32.
    hidden : (INPUTS, h) float32. bias, out : (h,) float32.
    """

    mean: Floats
    scale: Floats
    linear: Floats
    hidden: Floats
    bias: Floats
    out: Floats

    def __call__(self, scores: Floats, features: Features) -> Floats:
        """Fused scores, (n,) float32, of a model's scores, (n,), and features, (n, len(NAMES)).

        One that is not finite stays so.
        """
        return self.of_inputs(self.inputs(scores, features))

    def inputs(self, scores: Floats, features: Features) -> Floats:
        """The inputs, standardised and cut: (n, INPUTS)."""
        inputs = np.concatenate([scores[:, None], features.astype(np.float32)], axis=1)
        return np.asarray(np.clip((inputs - self.mean) / self.scale, -FARTHEST, FARTHEST), np.float32)

    def of_inputs(self, x: Floats) -> Floats:
        """The scores of standardised inputs."""
        fused: Floats = x @ self.linear + np.tanh(x @ self.hidden + self.bias) @ self.out
        return fused

    def save(self, folder: Path) -> None:
        """Write the head into a model's folder."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name), np.float32) for field in fields(self)}
        save_file(arrays, folder / FILE, {"schema": str(SCHEMA)})


def describe() -> dict[str, Any]:
    """What `afterclick.json` says of a head, so that it is never read as another one."""
    return {"file": FILE, "schema": SCHEMA, "features": list(NAMES)}


def read(folder: Path, described: Any) -> FusionHead:
    """Read the head of a model's folder.

    Parameters
    ----------
    described : the value of `fusion` in its `afterclick.json`.

    Raises
    ------
    ModelUnsupported
        It is missing or damaged, or was trained on other features than these.
    """
    if described != describe():
        raise model_source.ModelUnsupported(
            f"{folder / 'afterclick.json'}: fusion: got other features than this version computes (schema {SCHEMA}); "
            "train the model again with `afterclick train`"
        )
    try:
        head = FusionHead(**load_file(folder / FILE))
    except (OSError, SafetensorError, TypeError) as error:
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: got no fusion head ({error}), expected the file that `afterclick train` wrote"
        ) from error
    if head.hidden.shape != (INPUTS, len(head.out)) or head.linear.shape != (INPUTS,):
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: got a head of {head.hidden.shape[0]} inputs, expected {INPUTS}; train the model again"
        )
    return head
