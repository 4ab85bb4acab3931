"""The fusion head: a model's score and the candidate's features in, one score out; and its file.

Text alone is weak for users with a history, and counts alone for items without one (CoLLM, Zhang et al. 2023), so a
head learns how much each counts, and when. It reads one candidate at a time: a score depends on the user and that
candidate alone. Knows no training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from encoders.models import source as model_source
from ranker.features import SCHEMA, Features

FILE, FIRST_STAGE_FILE = "fusion.safetensors", "first-stage.safetensors"
CASCADE = "cascade"
"""The key of `afterclick.json` that says how many candidates the language model reads, and what the first stage reads.
"""
FIRST_STAGE = "first_stage"
"""The feature of a candidate that is the score of a cascade's first stage; it comes after all others."""
MAX_DEVIATION = 5.0
"""Standard deviations from the mean at which an input is cut: one outlier must not decide a list."""

Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FusionHead:
    """`score = x w + tanh(x W + b) v`, with x the inputs standardised and cut at `MAX_DEVIATION`.

    The inputs are the model's score, then the features. The linear part says what counts, the hidden part when: a sum
    cannot express a product of two inputs.

    Attributes
    ----------
    mean, scale : (inputs,) float32
        Standardise the inputs.
    linear : (inputs,) float32
        w.
    hidden : (inputs, h) float32
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
        """Return the fused scores, (n,) float32, of a model's scores, (n,), and features, (n, inputs - 1).

        A score that is not finite gives a fused score that is not finite.
        """
        return self.of_inputs(self.inputs(scores, features))

    def inputs(self, scores: Floats, features: Features) -> Floats:
        """Return the inputs, standardised and cut, (n, inputs) float32."""
        inputs = np.concatenate([scores[:, None], features.astype(np.float32)], axis=1)
        return np.asarray(np.clip((inputs - self.mean) / self.scale, -MAX_DEVIATION, MAX_DEVIATION), np.float32)

    def of_inputs(self, x: Floats) -> Floats:
        """Return the fused scores, (n,) float32, of standardised inputs, (n, inputs)."""
        fused: Floats = x @ self.linear + np.tanh(x @ self.hidden + self.bias) @ self.out
        return fused

    def last_layer(self, x: Floats) -> Floats:
        """Return what the score is linear in, (n, inputs + h) float32, of standardised inputs, (n, inputs)."""
        return np.concatenate([x, np.tanh(x @ self.hidden + self.bias)], axis=1)

    def lifted(self, column: int, lift: float) -> FusionHead:
        """Return a head whose scores are higher by `lift` times one feature, as far as it is not cut.

        Parameters
        ----------
        column : int
            Of the features. One that never varied in training counts for nothing here either.
        lift : float
        """
        scale = self.scale[1 + column]
        if not np.isfinite(scale):
            return self
        linear = self.linear.copy()
        linear[1 + column] += lift * scale
        return replace(self, linear=linear)

    def save(self, folder: Path, file: str = FILE) -> None:
        """Write the head into a model's folder."""
        arrays = {field.name: np.ascontiguousarray(getattr(self, field.name), np.float32) for field in fields(self)}
        save_file(arrays, folder / file, {"schema": str(SCHEMA)})


def describe(names: Sequence[str], file: str = FILE) -> dict[str, Any]:
    """Return the entry `fusion` of `afterclick.json`: it protects a head from inputs that it was not trained on."""
    return {"file": file, "schema": SCHEMA, "features": list(names)}


def cascade(names: Sequence[str], depth: int) -> dict[str, Any]:
    """Return the entry `cascade` of `afterclick.json`: the first stage's features, and how many candidates it keeps."""
    return describe(names, FIRST_STAGE_FILE) | {"depth": depth}


def read(folder: Path, described: Any, names: Sequence[str], file: str = FILE) -> FusionHead:
    """Read a head of a model's folder.

    Parameters
    ----------
    folder : Path
    described : dict
        What the folder's `afterclick.json` says of it.
    names : sequence of str
        The features that are computed with this folder.
    file : str
        Name of its file.

    Raises
    ------
    ModelUnsupported
        The file is missing or damaged, or the head was trained on other features.
    """
    if described != describe(names, file):
        raise model_source.ModelUnsupported(
            f"{folder / 'afterclick.json'}: fusion: got other features than this version computes with the files in "
            f"this folder (schema {SCHEMA}); copy the whole folder, or train the model again with `afterclick train`"
        )
    head = load_head(folder / file)
    inputs = 1 + len(names)
    if head.hidden.shape != (inputs, len(head.out)) or head.linear.shape != (inputs,):
        raise model_source.ModelUnsupported(
            f"{folder / file}: got a head of {head.hidden.shape[0]} inputs, expected {inputs}; train the model again"
        )
    return head


def load_head(file: Path) -> FusionHead:
    """Read the file that `FusionHead.save` wrote.

    Raises
    ------
    ModelUnsupported
        It is missing or damaged.
    """
    try:
        return FusionHead(**load_file(file))
    except (OSError, SafetensorError, TypeError) as error:
        raise model_source.ModelUnsupported(
            f"{file}: got no fusion head ({error}), expected the file that `afterclick train` wrote"
        ) from error
