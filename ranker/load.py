"""What a model's folder holds: the scorer, by its files, and the parts that recall uses.

Imports torch when it loads a scorer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.files import INT8_FILE, pools_vectors
from ranker.features import names
from ranker.recall import trained
from ranker.recall.trained import TrainedRecall
from ranker.score import FeatureSet, NotScored, Scorer
from ranker.scorers import known_answers, known_pairs
from ranker.scorers.template import FILE
from ranker.version import fingerprint, folder_of, is_url

logger = logging.getLogger(__name__)


def load_scorer(
    model: str,
    device: str = "auto",
    dtype: str = "auto",
    cache_bytes: int | None = None,
    in_training: bool = False,
    require_sane: bool = False,
    connect: Callable[[str], Scorer] | None = None,
) -> Scorer:
    """Load the scorer that fits the model's architecture, and check its known answers and known pairs.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, a hub name, or `default`, the model in this package. `architectures`
        in its `config.json` decides: `...ForCausalLM` is a packed decoder, `...ForSequenceClassification` a
        cross-encoder, or a packed encoder if its `afterclick.json` says `{"packed": true}`; every other model is a
        bi-encoder, and so is one that pools (`modules.json`). An `afterclick.json` with `fusion` puts a head on top
        (`ranker.fusion.fused`); its `base` names the model below the head, `none` for no model. An address
        (`https://…`) stands for the model of a server.
    device, dtype : str
        See `encoders.models.device.choose`.
    cache_bytes : int, optional
        Memory for what recurs from list to list: a bi-encoder's vectors, a decoder's contexts. By default the scorer
        chooses.
    in_training : bool
        The model will be trained, or has just been: it needs no known answers yet, and may rank anyhow.
    require_sane : bool
        Whether a model that ranks too few of the known pairs right (`ranker.scorers.known_pairs`) is refused.
        Otherwise the log names it.
    connect : callable, optional
        Returns the scorer at an address. It is None where only a model that is loaded here will do.

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
    base = base_of(model)
    if is_url(base):
        reader: Scorer | None = _connected(base, connect)
    else:
        reader = None if base == "none" else _load_base(base, device, dtype, cache_bytes, in_training)
    scorer = _with_head(model, folder, reader)
    try:
        knows_answers = known_answers.check(scorer, folder)
        sanity = known_pairs.check(scorer, knows_answers, in_training)
        if sanity is not None and not in_training:
            known_pairs.report(sanity, require_sane)
    except NotScored as error:  # a server that is away for a while is no wrong model
        logger.warning("%s; what it answers is not checked", error)
    scorer.forget(None)
    scorer.usage.clear()  # the checks are no requests
    return scorer


def load_recall(model: str) -> TrainedRecall:
    """Load what the model's folder holds for the recall of candidates; nothing for a model that is no folder.

    Raises
    ------
    ModelUnsupported
        A part is damaged.
    """
    folder, files = folder_of(model), fingerprint(model)
    return replace(trained.load(folder, _description(folder) or {}), files=files)


def sanity_of(model: str, scorer: Scorer) -> known_pairs.Sanity | None:
    """Return how a scorer that was loaded as `model` ranks the known pairs; None for one that reads no text."""
    return known_pairs.check(scorer, was_trained_here=(folder_of(model) / known_answers.FILE).is_file())


def base_of(model: str) -> str:
    """Return the model that reads the texts: the model itself, or the one below a fusion head; `none` for no model."""
    return str((_description(folder_of(model)) or {}).get("base", model))


def cascade_depth(model: str) -> int:
    """Return how many candidates of a list the model under a fusion head reads; 0 for all of them."""
    described = (_description(folder_of(model)) or {}).get("cascade") or {}
    return int(described.get("depth", 0))


def _with_head(model: str, folder: Path, scorer: Scorer | None) -> Scorer:
    description = _description(folder)
    if description is not None and "fusion" in description:
        from ranker.fusion.fused import FusedScorer, first_stage
        from ranker.fusion.head import FIRST_STAGE, read

        parts = trained.load(folder, description)  # what the state tier could not load is refused here, too
        feature_set = FeatureSet(names(parts.learnt), parts.version)
        first = first_stage(folder, description, feature_set.names)
        columns = feature_set.names if first is None else (*feature_set.names, FIRST_STAGE)
        return FusedScorer(model, scorer, read(folder, description["fusion"], columns), feature_set, first)
    if scorer is None:
        raise model_source.ModelNotFound(f"model: got {model!r} with neither a base nor a fusion head; train it again")
    return scorer


def _connected(url: str, connect: Callable[[str], Scorer] | None) -> Scorer:
    if connect is None:
        raise model_source.ModelUnsupported(
            f"model: got {url!r}, the address of a server, expected a model that is loaded here: a folder, an "
            "installed package, or a hub name"
        )
    return connect(url)


def _description(folder: Path) -> dict[str, Any] | None:
    return model_source.read_json(folder, FILE, dict) if folder.is_dir() else None


def _load_base(model: str, device: str, dtype: str, cache_bytes: int | None, in_training: bool) -> Scorer:
    cache = {} if cache_bytes is None else {"cache_bytes": cache_bytes}
    folder = model_source.fetch(model)
    if dtype == "auto" and (folder / INT8_FILE).is_file() and choose(device).device == "cpu":
        dtype = "int8"  # the weights were made for it
    config = model_source.read_json(folder, "config.json", dict) or {}
    architecture = "" if pools_vectors(folder) else str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        from ranker.scorers.packed.decoder import PackedDecoder

        return PackedDecoder(model, device, dtype, **cache)
    if architecture.endswith("ForSequenceClassification"):
        if (model_source.read_json(folder, FILE, dict) or {}).get("packed"):
            from ranker.scorers.packed.encoder import PackedEncoder

            return PackedEncoder(model, device, dtype)
        from ranker.scorers.cross_encoder import CrossEncoder

        return CrossEncoder(model, device, dtype, in_training)
    from ranker.scorers.bi_encoder import BiEncoder

    return BiEncoder(model, device, dtype, **cache)
