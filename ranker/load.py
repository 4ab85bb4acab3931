"""The choice of the scorer by the files in a model's folder. Imports torch when it loads a scorer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.files import INT8_FILE
from ranker.score import Scorer
from ranker.scorers import known_answers, known_pairs
from ranker.scorers.template import FILE
from ranker.version import folder_of


def load_scorer(
    model: str,
    device: str = "auto",
    dtype: str = "auto",
    cache_bytes: int | None = None,
    in_training: bool = False,
) -> Scorer:
    """Load the scorer that fits the model's architecture, and check its known answers and known pairs.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, a hub name, or `default`, the model in this package. `architectures`
        in its `config.json` decides: `...ForCausalLM` is a packed decoder, `...ForSequenceClassification` a
        cross-encoder, or a packed encoder if its `afterclick.json` says `{"packed": true}`; every other model is a
        bi-encoder. An `afterclick.json` with `fusion` puts a head on top (`ranker.fusion.fused`); its `base` names the
        model below the head, `none` for no model.
    device, dtype : str
        See `encoders.models.device.choose`.
    cache_bytes : int, optional
        Memory for what recurs from list to list: a bi-encoder's vectors, a decoder's contexts. By default the scorer
        chooses.
    in_training : bool
        The model will be trained, or has just been: it needs no known answers and no template yet.

    Raises
    ------
    ModelNotFound
        There is no such model, or it cannot be reached.
    ModelUnsupported
        It cannot be run correctly, does not give its known answers (`ranker.scorers.known_answers`), or its scores do
        not rank (`ranker.scorers.known_pairs`); the message says why.
    DeviceUnavailable
        CUDA was requested and is not available.
    """
    folder = folder_of(model)
    scorer = _load(model, folder, device, dtype, cache_bytes, in_training)
    knows_answers = known_answers.check(scorer, folder)
    known_pairs.check(scorer, may_be_inverted=knows_answers or in_training)
    scorer.forget(None)
    scorer.usage.clear()  # the checks are no requests
    return scorer


def has_fusion(model: str) -> bool:
    """Return whether the model's folder has a fusion head, so that its requests need features. Loads nothing."""
    return "fusion" in (_description(folder_of(model)) or {})


def _load(model: str, folder: Path, device: str, dtype: str, cache_bytes: int | None, in_training: bool) -> Scorer:
    description = _description(folder)
    base = (description or {}).get("base", model)
    scorer = None if base == "none" else _load_base(base, device, dtype, cache_bytes, in_training)
    if description is not None and "fusion" in description:
        from ranker.fusion.fused import FusedScorer
        from ranker.fusion.head import read

        return FusedScorer(model, scorer, read(folder, description["fusion"]))
    if scorer is None:
        raise model_source.ModelNotFound(f"model: got {model!r} with neither a base nor a fusion head; train it again")
    return scorer


def _description(folder: Path) -> dict[str, Any] | None:
    return model_source.read_json(folder, FILE, dict) if folder.is_dir() else None


def _load_base(model: str, device: str, dtype: str, cache_bytes: int | None, in_training: bool) -> Scorer:
    cache = {} if cache_bytes is None else {"cache_bytes": cache_bytes}
    if dtype == "auto" and (model_source.fetch(model) / INT8_FILE).is_file() and choose(device).device == "cpu":
        dtype = "int8"  # the weights were made for it
    config = model_source.read_json(model_source.fetch(model), "config.json", dict) or {}
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        from ranker.scorers.packed.decoder import PackedDecoder

        return PackedDecoder(model, device, dtype, **cache, in_training=in_training)
    if architecture.endswith("ForSequenceClassification"):
        if (model_source.read_json(model_source.fetch(model), FILE, dict) or {}).get("packed"):
            from ranker.scorers.packed.encoder import PackedEncoder

            return PackedEncoder(model, device, dtype)
        from ranker.scorers.cross_encoder import CrossEncoder

        return CrossEncoder(model, device, dtype, in_training)
    from ranker.scorers.bi_encoder import BiEncoder

    return BiEncoder(model, device, dtype, **cache)
