"""The fusion head: a model's score and the candidate's features in, one score out; and its file.

Text alone is weak for users with a history, and counts alone for items without one (CoLLM, Zhang et al. 2023), so a
head learns how much each counts, and when. It reads one candidate at a time: a score depends on the user and that
candidate alone. Knows no training.
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
MAX_DEVIATION = 5.0
"""Standard deviations from the mean at which an input is cut: one outlier must not decide a list."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FusionHead:
    """`score = x w + tanh(x W + b) v`, with x the inputs standardised and cut at `MAX_DEVIATION`.

    The linear part says what counts, the hidden part when: a sum cannot express a product of two inputs.

    Attributes
    ----------
    mean, scale : (INPUTS,) float32
        Standardise the inputs.
    linear : (INPUTS,) float32
        w.
    hidden : (INPUTS, h) float32
        W.
    bias, out : (h,) float32
        b and v.
    """

    mean: Floats
    scale: Floats
    linear: Floats
    hidden: Floats
    bias: Floats
    out: Floats

    def __call__(self, scores: Floats, features: Features) -> Floats:
        """Return the fused scores, (n,) float32, of a model's scores, (n,), and features, (n, len(NAMES)).

        A score that is not finite gives a fused score that is not finite.
        """
        return self.of_inputs(self.inputs(scores, features))

    def inputs(self, scores: Floats, features: Features) -> Floats:
        """Return the inputs, standardised and cut, (n, INPUTS) float32."""
        inputs = np.concatenate([scores[:, None], features.astype(np.float32)], axis=1)
        return np.asarray(np.clip((inputs - self.mean) / self.scale, -MAX_DEVIATION, MAX_DEVIATION), np.float32)

    def of_inputs(self, x: Floats) -> Floats:
        """Return the fused scores, (n,) float32, of standardised inputs, (n, INPUTS)."""
        fused: Floats = x @ self.linear + np.tanh(x @ self.hidden + self.bias) @ self.out
        return fused

    def save(self, folder: Path) -> None:
        """Write the head into a model's folder."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name), np.float32) for field in fields(self)}
        save_file(arrays, folder / FILE, {"schema": str(SCHEMA)})


def describe() -> dict[str, Any]:
    """Return the entry `fusion` of `afterclick.json`: it protects a head from inputs that it was not trained on."""
    return {"file": FILE, "schema": SCHEMA, "features": list(NAMES)}


def read(folder: Path, described: Any) -> FusionHead:
    """Read the head of a model's folder.

    Parameters
    ----------
    folder : Path
    described : dict
        The value of `fusion` in the folder's `afterclick.json`.

    Raises
    ------
    ModelUnsupported
        The file is missing or damaged, or the head was trained on other features.
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
