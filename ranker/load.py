"""The choice among the scorers, by what a model's folder says it is. Imports no torch until a scorer is loaded."""

from __future__ import annotations

from encoders import model_source
from ranker.score import Scorer


def load_scorer(model: str, device: str = "auto", dtype: str = "auto", cache_bytes: int | None = None) -> Scorer:
    """Load the scorer that fits the model's architecture.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, or a hub name. `architectures` in its `config.json` decides:
        `...ForCausalLM` is a packed decoder, `...ForSequenceClassification` a cross-encoder, or a packed encoder
        if its `afterclick.json` says `{"packed": true}`, else a bi-encoder.
    device, dtype : str
        See `encoders.device.choose`.
    cache_bytes : int, optional
        Memory for what recurs from list to list: a bi-encoder's vectors, a decoder's contexts. By default, what the
        scorer chooses.

    Raises
    ------
    ModelNotFound
        There is no such model, or it cannot be reached.
    ModelUnsupported
        It cannot be run correctly; the message says why.
    DeviceUnavailable
        CUDA was asked for and is not there.
    """
    cache = {} if cache_bytes is None else {"cache_bytes": cache_bytes}
    config = model_source.read_json(model_source.fetch(model), "config.json", dict) or {}
    architecture = str((config.get("architectures") or [""])[0])
    if architecture.endswith(("ForCausalLM", "LMHeadModel")):
        from ranker.packed_decoder import PackedDecoder

        return PackedDecoder(model, device, dtype, **cache)
    if architecture.endswith("ForSequenceClassification"):
        if (model_source.read_json(model_source.fetch(model), "afterclick.json", dict) or {}).get("packed"):
            from ranker.packed_encoder import PackedEncoder

            return PackedEncoder(model, device, dtype)
        from ranker.cross_encoder import CrossEncoder

        return CrossEncoder(model, device, dtype)
    from ranker.bi_encoder import BiEncoder

    return BiEncoder(model, device, dtype, **cache)
