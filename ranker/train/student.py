"""Make a model's folder out of another model: untrained layers with a new head, fewer layers, or smaller numbers.

What comes out is loaded by `load_scorer`; training it is `model_fit`'s. Called by `afterclick train` and `compress`.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from encoders.models import int8
from encoders.models import source as model_source
from encoders.models.device import Placement
from encoders.models.files import INT8_FILE
from ranker.scorers import template
from ranker.scorers.template import FILE

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.onnx", "onnx", "openvino")
AUTO_CLASSES: tuple[tuple[str, model_source.AutoClass], ...] = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
)
"""By the end of the architecture's name; every other is read as an encoder."""


def start(base: str, form: str, folder: Path, seed: int) -> None:
    """Make an untrained scorer of an embedding model: its layers, and a new head.

    Parameters
    ----------
    form : `packed` or `cross`.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    source = model_source.fetch(base)
    torch.manual_seed(seed)
    with model_source.explain_errors(base):
        model = AutoModelForSequenceClassification.from_pretrained(source, num_labels=1)
    model.save_pretrained(folder)
    model_source.load_tokenizer(base, source).save_pretrained(folder)
    (folder / FILE).write_text(json.dumps({"packed": True} if form == "packed" else {}), encoding="utf-8")


def prune(base: str, layers: int, folder: Path) -> list[int]:
    """Keep some of a model's layers, evenly spread, the first and the last among them. Returns their places.

    As a student is begun in DistilBERT (Sanh et al. 2019): it wants training after it.

    Raises
    ------
    ModelUnsupported
        It has no more than so many layers, or it is not plain where they are.
    """
    from torch.nn import ModuleList

    source = model_source.fetch(base)
    model = _loaded(base, source)
    config = model.config.get_text_config()
    count = config.num_hidden_layers
    stacks = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, ModuleList) and len(child) == count
    ]
    if len(stacks) != 1 or not 1 <= layers < count:
        raise model_source.ModelUnsupported(
            f"--layers: got {layers} for {base!r} ({type(model).__name__}, {count} layers), expected 1 to {count - 1} "
            "and a model with its layers in one list"
        )
    kept = [int(place) for place in np.linspace(count - 1, 0, layers).round()[::-1]]
    [(parent, name, stack)] = stacks
    setattr(parent, name, ModuleList(stack[place] for place in kept))
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[place] for place in kept]
    _copy_all_but_weights(source, folder)
    model.save_pretrained(folder)
    return kept


def quantise(base: str, folder: Path) -> None:
    """Keep a model's matrices in int8."""
    source = model_source.fetch(base)
    _copy_all_but_weights(source, folder)
    if _auto_class(source) == "AutoModelForCausalLM":
        template.keep(source, folder)
    int8.save(_loaded(base, source), folder / INT8_FILE)


def is_embedding_model(base: str) -> bool:
    """Whether the model gives vectors, not scores."""
    return _auto_class(model_source.fetch(base)) == "AutoModel"


def layers(base: str) -> int:
    """How many layers it has."""
    from transformers import AutoConfig

    with model_source.explain_errors(base):
        config = AutoConfig.from_pretrained(model_source.fetch(base), trust_remote_code=False)
    return int(config.get_text_config().num_hidden_layers)


def size(base: str) -> int:
    """Bytes of a model's weights."""
    return sum(file.stat().st_size for file in model_source.fetch(base).glob("*.safetensors"))


def _loaded(base: str, source: Path) -> Any:
    where = Placement("cpu", "float32", "to be changed")
    return model_source.load_weights(_auto_class(source), base, source, where, may_lack="pooler")


def _auto_class(source: Path) -> model_source.AutoClass:
    config = model_source.read_json(source, "config.json", dict) or {}
    architecture = str((config.get("architectures") or [""])[0])
    return next((kind for end, kind in AUTO_CLASSES if architecture.endswith(end)), "AutoModel")


def _copy_all_but_weights(source: Path, folder: Path) -> None:
    """What belongs to the model itself: not a head on top, which knows other scores, and not what was said of it."""
    ours = (FILE, "fusion.safetensors", "known-answers.json", "training.svg", "checkpoint")
    shutil.copytree(source, folder, ignore=shutil.ignore_patterns(*WEIGHTS, *ours), dirs_exist_ok=True)
    described = model_source.read_json(source, FILE, dict) or {}
    template = {key: value for key, value in described.items() if key not in ("base", "fusion", "trained")}
    if template:
        (folder / FILE).write_text(json.dumps(template), encoding="utf-8")
