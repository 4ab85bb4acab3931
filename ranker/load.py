"""The choice among the scorers, by what a model's folder says it is. Imports no torch until a scorer is loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.files import INT8_FILE
from ranker.folder import folder_of
from ranker.score import Scorer
from ranker.scorers import known_answers, known_pairs
from ranker.scorers.template import FILE


def load_scorer(
    model: str,
    device: str = "auto",
    dtype: str = "auto",
    cache_bytes: int | None = None,
    in_training: bool = False,
) -> Scorer:
    """Load the scorer that fits the model's architecture, and ask it what it must know.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, a hub name, or `default`, which comes with us. `architectures` in its
        `config.json` decides:
        `...ForCausalLM` is a packed decoder, `...ForSequenceClassification` a cross-encoder, or a packed encoder
        if its `afterclick.json` says `{"packed": true}`, else a bi-encoder. An `afterclick.json` that says `fusion` has
        a head on top (`ranker.fusion.fused`), and one that says `base` is a head on that model, `none` for no model.
    device, dtype : str
        See `encoders.models.device.choose`.
    cache_bytes : int, optional
        Memory for what recurs from list to list: a bi-encoder's vectors, a decoder's contexts. By default, what the
        scorer chooses.
    in_training : bool
        It is to be trained, or was trained just now: it need not know anything yet, nor in which words it was trained.

    Raises
    ------
    ModelNotFound
        There is no such model, or it cannot be reached.
    ModelUnsupported
        It cannot be run correctly, does not give its known answers (`ranker.scorers.known_answers`), or its scores do
        not rank (`ranker.scorers.known_pairs`); the message says why.
    DeviceUnavailable
        CUDA was asked for and is not there.
    """
    folder = folder_of(model)
    scorer = _load(model, folder, device, dtype, cache_bytes, in_training)
    knows_answers = known_answers.check(scorer, folder)
    known_pairs.check(scorer, may_be_inverted=knows_answers or in_training)
    scorer.forget(None)
    scorer.usage.clear()  # the questions were nobody's requests
    return scorer


def has_fusion(model: str) -> bool:
    """Whether the model's folder has a fusion head, so that its requests need features. Loads nothing."""
    return "fusion" in (_described(folder_of(model)) or {})


def _load(model: str, folder: Path, device: str, dtype: str, cache_bytes: int | None, in_training: bool) -> Scorer:
    given = _described(folder)
    base = (given or {}).get("base", model)
    scorer = None if base == "none" else _plain(base, device, dtype, cache_bytes, in_training)
    if given is not None and "fusion" in given:
        from ranker.fusion.fused import FusedScorer
        from ranker.fusion.head import read

        return FusedScorer(model, scorer, read(folder, given["fusion"]))
    if scorer is None:
        raise model_source.ModelNotFound(f"model: got {model!r} with neither a base nor a fusion head; train it again")
    return scorer


def _described(folder: Path) -> dict[str, Any] | None:
    return model_source.read_json(folder, FILE, dict) if folder.is_dir() else None


def _plain(model: str, device: str, dtype: str, cache_bytes: int | None, in_training: bool) -> Scorer:
    cache = {} if cache_bytes is None else {"cache_bytes": cache_bytes}
    if dtype == "auto" and (model_source.fetch(model) / INT8_FILE).is_file() and choose(device).device == "cpu":
        dtype = "int8"  # what it was made for
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
