"""Make a model's folder out of another model: a new head, fewer layers, fewer weights, or smaller numbers.

`ranker.load.load_scorer` loads the result; `ranker.train.model_fit` trains it. Knows no data.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from encoders.models import int8, sparse
from encoders.models import source as model_source
from encoders.models.device import Placement
from encoders.models.files import INT8_FILE, SPARSE_FILE, WEIGHTS_FILE, pools_vectors
from encoders.text import prompts
from ranker.scorers import template, template_choice
from ranker.scorers.template import FILE

WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.onnx", "onnx", "openvino")
HEADS = ("fusion.safetensors", "first-stage.safetensors")
AUTO_CLASSES: tuple[tuple[str, model_source.AutoClass], ...] = (
    ("ForCausalLM", "AutoModelForCausalLM"),
    ("LMHeadModel", "AutoModelForCausalLM"),
    ("ForSequenceClassification", "AutoModelForSequenceClassification"),
)
"""By the end of the architecture's name; every other architecture is loaded as an encoder."""


def start(base: str, form: str, folder: Path, seed: int) -> None:
    """Write an untrained scorer, made of an embedding model's layers and a new head.

    Parameters
    ----------
    base : str
        The embedding model.
    form : str
        `packed` or `cross`.
    folder : Path
    seed : int
        Of the new head's weights.
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
    """Write a model with some of another one's layers, evenly spaced, the last always among them.

    This is how DistilBERT initialises its student (Sanh et al. 2019); the result needs training.

    Returns
    -------
    list of int
        Indices of the layers that were kept.

    Raises
    ------
    ModelUnsupported
        The model has no more layers than that, or its layers are not in one list.
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
    kept = [int(index) for index in np.linspace(count - 1, 0, layers).round()[::-1]]
    [(parent, name, stack)] = stacks
    setattr(parent, name, ModuleList(stack[index] for index in kept))
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):
        config.layer_types = [config.layer_types[index] for index in kept]
    _copy_all_but_weights(base, source, folder)
    model.save_pretrained(folder)
    return kept


def sparsify(base: str, folder: Path) -> None:
    """Write a model with the two smallest of every four weights of its linear layers zero; it needs training."""
    source = model_source.fetch(base)
    model = _loaded(base, source)
    sparse.prune(model)
    _copy_all_but_weights(base, source, folder)
    model.save_pretrained(folder)


def pack(base: str, folder: Path) -> None:
    """Write the weights of a 2:4 model's folder without their zeros, in the dtype of the model that it was made of."""
    import torch
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model_source.fetch(base), trust_remote_code=False)
    dtype = config.get_text_config().dtype or torch.float32
    (folder / SPARSE_FILE).unlink(missing_ok=True)  # of a run that was stopped here
    sparse.save(_loaded(str(folder), folder), folder / SPARSE_FILE, dtype)
    for file in folder.glob(f"{Path(WEIGHTS_FILE).stem}*"):
        file.unlink()


def quantise(base: str, folder: Path) -> None:
    """Write a model with its matrices in int8."""
    source = model_source.fetch(base)
    _copy_all_but_weights(base, source, folder)
    int8.save(_loaded(base, source), folder / INT8_FILE)


def is_embedding_model(base: str) -> bool:
    """Whether the model returns vectors rather than scores."""
    return _auto_class(model_source.fetch(base)) == "AutoModel"


def is_decoder(base: str) -> bool:
    """Whether the model is a language model that continues texts."""
    return _auto_class(model_source.fetch(base)) == "AutoModelForCausalLM"


def layers(base: str) -> int:
    """How many layers the model has."""
    from transformers import AutoConfig

    with model_source.explain_errors(base):
        config = AutoConfig.from_pretrained(model_source.fetch(base), trust_remote_code=False)
    return int(config.get_text_config().num_hidden_layers)


def size(base: str) -> int:
    """Bytes of a model's weights."""
    return sum(file.stat().st_size for file in model_source.fetch(base).glob("*.safetensors"))


def _loaded(base: str, source: Path) -> Any:
    placement = Placement("cpu", "float32", "to be changed")
    return model_source.load_weights(_auto_class(source), base, source, placement, may_lack="pooler")


def _auto_class(source: Path) -> model_source.AutoClass:
    config = model_source.read_json(source, "config.json", dict) or {}
    architecture = str((config.get("architectures") or [""])[0])
    if pools_vectors(source):
        return "AutoModel"
    return next((kind for end, kind in AUTO_CLASSES if architecture.endswith(end)), "AutoModel")


def _copy_all_but_weights(base: str, source: Path, folder: Path) -> None:
    """Copy what belongs to the model itself, without a fusion head, which knows other scores, and its description.

    The template of a decoder and the prompts of an embedding model are written with it, for the model's name may have
    chosen them.
    """
    of_the_head = (FILE, *HEADS, "known-answers.json", "training.svg", "checkpoint")
    without = shutil.ignore_patterns(*WEIGHTS, *of_the_head)

    def not_copied(at: str, names: list[str]) -> set[str]:
        return without(at, names) if Path(at) == source else set()  # a module below keeps its weights

    shutil.copytree(source, folder, ignore=not_copied, dirs_exist_ok=True)
    description = model_source.read_json(source, FILE, dict) or {}
    own = {key: value for key, value in description.items() if key not in ("base", "cascade", "fusion", "trained")}
    if own:
        (folder / FILE).write_text(json.dumps(own), encoding="utf-8")
    if _auto_class(source) == "AutoModelForCausalLM":
        choices = template_choice.choices(source, model_source.load_tokenizer(base, source), base)
        if len(choices) == 1:  # of several, the known pairs decide again, as they did for the first model
            template.keep(choices[0].template, folder)
    elif _auto_class(source) == "AutoModel":
        prompts.keep(base, source, folder)
