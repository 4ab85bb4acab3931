"""Candidates to scores: the interface that every model of the ranker keeps, and the choice among them.

Knows no history, catalogue or transport: texts in, numbers out. Called by the rank tier and by evaluation,
from one worker thread at a time. Imports no torch until a scorer is loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from encoders import model_source
from encoders.device import Placement
from encoders.usage import Usage


@dataclass(frozen=True)
class ScoreRequest:
    """One user's candidates.

    Attributes
    ----------
    context : str
        What the user did, one event per line in order of time, newest last; may be empty.
    candidates : sequence of str
        A text per item; may be empty.
    """

    context: str
    candidates: Sequence[str]


class Scorer(Protocol):
    """A model that scores candidates.

    Attributes
    ----------
    name : str
        The model as it was named.
    placement : Placement
        Its device and dtype, and why.
    usage : Usage
        Counters since it was loaded.
    """

    name: str
    placement: Placement
    usage: Usage

    def prepare(self, texts: Sequence[str]) -> None:
        """Do ahead what can be done for items that will come as candidates, so that no list waits for it."""
        ...

    def score(self, requests: Sequence[ScoreRequest]) -> list[NDArray[np.float32]]:
        """Score every candidate of every request.

        A score depends on the context and on that candidate, never on the rest of the batch or the order. A
        context that is too long loses its oldest events, a candidate that is too long its end; both are
        counted in `usage`.

        Returns
        -------
        list of ndarray of float32, (len(candidates),)
            One array per request; higher is better. The scale is the model's own.
        """
        ...


def load_scorer(model: str, device: str = "auto", dtype: str = "auto") -> Scorer:
    """Load the scorer that fits the model's architecture.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, or a hub name. `architectures` in its `config.json` decides:
        `...ForCausalLM` is a packed decoder, `...ForSequenceClassification` a cross-encoder, else a
        bi-encoder.
    device, dtype : str
        See `encoders.device.choose`.

    Raises
    ------
    ModelNotFound
        There is no such model, or it cannot be reached.
    ModelUnsupported
        It cannot be run correctly; the message says why.
    DeviceUnavailable
        CUDA was asked for and is not there.
    """
    config = model_source.read_json(model_source.fetch(model), "config.json", dict) or {}
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        from ranker.packed_decoder import PackedDecoder

        return PackedDecoder(model, device, dtype)
    if architecture.endswith("ForSequenceClassification"):
        from ranker.cross_encoder import CrossEncoder

        return CrossEncoder(model, device, dtype)
    from ranker.bi_encoder import BiEncoder

    return BiEncoder(model, device, dtype)
