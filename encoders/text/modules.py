"""What follows the transformer in a sentence-transformers folder: the pooling of token vectors, and dense layers.

Read from `modules.json` and the folders that it names. A plain encoder without it is mean-pooled. Vectors are
normalised at the end for every model. Knows no texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from encoders.models import source as model_source
from encoders.models.files import MODULES_FILE, MULTILINGUAL, WEIGHTS_FILE

POOLING = ("mean", "cls", "lasttoken")
LEGACY_POOLING = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
"""Classes of `torch.nn` that a dense layer may name; `Tanh` where it names none, as in sentence-transformers."""
SENTENCE = "sentence_embedding"
"""What sentence-transformers calls the pooled vector."""


@dataclass(frozen=True, eq=False)
class Modules:
    """Pooling and the layers after it.

    Attributes
    ----------
    pooling : str
        One of `POOLING`.
    layers : nn.Sequential
        Dense layers with their activations, and normalisations, in float32.
    dim : int
        Length of a vector that they give.
    pools_prompts : bool
        Whether the tokens of a prompt are pooled with those of its text.
    """

    pooling: str
    layers: nn.Sequential
    dim: int
    pools_prompts: bool

    def __call__(self, hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Return vectors of length 1, (rows, dim), of hidden states that are padded on the right.

        Parameters
        ----------
        hidden : tensor of float32, (rows, tokens, hidden)
        mask : tensor of int64, (rows, tokens)
            1 for a token, 0 for padding.
        """
        if self.pooling == "cls":
            pooled = hidden[:, 0]
        elif self.pooling == "lasttoken":
            pooled = hidden[torch.arange(len(hidden), device=hidden.device), mask.sum(dim=1) - 1]
        else:
            weights = mask[:, :, None].float()
            pooled = (hidden * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)
        vectors: torch.Tensor = nn.functional.normalize(self.layers(pooled), dim=-1)
        return vectors


class Normalize(nn.Module):
    """Vectors to length 1."""

    def forward(self, vectors: torch.Tensor) -> torch.Tensor:
        """(rows, dim) -> (rows, dim)."""
        return nn.functional.normalize(vectors, dim=-1)


def read(folder: Path, hidden: int, device: str) -> Modules:
    """Read the pooling of a model's folder, and load the layers after it.

    Parameters
    ----------
    folder : Path
    hidden : int
        Length of the transformer's token vectors.
    device : str

    Raises
    ------
    ModelUnsupported
        A module, a pooling or a layer is of another kind, or lacks its weights; the message names what to use.
    """
    listed = _listed(folder)
    kinds = [kind for kind, _ in listed]
    before = kinds.index("Pooling") if "Pooling" in kinds else len(kinds)
    unknown = [kind for kind in kinds[:before] if kind != "Transformer"]
    unknown += [kind for kind in kinds[before + 1 :] if kind not in ("Dense", "Normalize")]
    if unknown:
        raise model_source.ModelUnsupported(
            f"{folder / MODULES_FILE}: got the module {unknown[0]} among {', '.join(kinds)}, expected Transformer, "
            f"Pooling, then Dense and Normalize only; choose a model of these, such as {MULTILINGUAL}"
        )
    path = folder / (listed[before][1] if before < len(listed) else "1_Pooling")
    config = model_source.read_json(path, "config.json", dict) or {"pooling_mode": "mean"}
    layers, dim = nn.Sequential(), hidden
    for kind, name in listed[before + 1 :]:
        layer, dim = (Normalize(), dim) if kind == "Normalize" else _dense(folder / name, dim)
        layers.append(layer)
    pools_prompts = config.get("include_prompt") is not False
    return Modules(_pooling(path, config), layers.requires_grad_(False).eval().to(device), dim, pools_prompts)


def _listed(folder: Path) -> list[tuple[str, str]]:
    """Kind and path of each module, in order; nothing for a plain encoder."""
    modules: Sequence[Any] = model_source.read_json(folder, MODULES_FILE, list) or []
    if not all(isinstance(module, dict) for module in modules):
        raise model_source.ModelUnsupported(
            f"{folder / MODULES_FILE}: got {modules!r}, expected objects; copy the file again"
        )
    return [(str(module.get("type", "")).rpartition(".")[2], str(module.get("path", ""))) for module in modules]


def _pooling(path: Path, config: dict[str, Any]) -> str:
    legacy = [
        LEGACY_POOLING.get(key, key) for key, on in config.items() if key.startswith("pooling_mode_") and on is True
    ]
    mode = config.get("pooling_mode", legacy)
    mode = mode[0] if isinstance(mode, list) and len(mode) == 1 else mode
    if mode not in POOLING:
        raise model_source.ModelUnsupported(
            f"{path / 'config.json'}: got the pooling {mode!r}, expected one of {', '.join(POOLING)}; choose another "
            f"model, such as {MULTILINGUAL}"
        )
    return str(mode)


def _dense(path: Path, width: int) -> tuple[nn.Module, int]:
    """A dense layer with its activation, and the length of its output."""
    config = model_source.read_json(path, "config.json", dict) or {}
    activation = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    reads, writes = config.get("module_input_name") or SENTENCE, config.get("module_output_name") or SENTENCE
    problem = ""
    if not activation.startswith("torch.nn.") or activation.rpartition(".")[2] not in ACTIVATIONS:
        problem = f"the activation {activation!r}, expected one of {', '.join(ACTIVATIONS)} of torch.nn"
    elif reads != SENTENCE or writes != SENTENCE or config.get("use_residual"):
        problem = f"a layer from {reads} to {writes} or with a residual, expected a plain one of the {SENTENCE}"
    if problem:
        raise model_source.ModelUnsupported(
            f"{path / 'config.json'}: got {problem}; choose another model, such as {MULTILINGUAL}"
        )
    if not (path / WEIGHTS_FILE).is_file():
        raise model_source.ModelUnsupported(
            f"{path}: got a dense layer without {WEIGHTS_FILE}, expected its weights in it (no pickles are read); "
            "load the model once where you trust it with sentence_transformers.SentenceTransformer and write it with "
            f"save_pretrained(OUT), or choose another model, such as {MULTILINGUAL}"
        )
    with model_source.explain_errors(str(path)):
        weights = {
            name.removeprefix("linear."): weight.float() for name, weight in load_file(path / WEIGHTS_FILE).items()
        }
        outputs, inputs = weights["weight"].shape
        linear = nn.Linear(inputs, outputs, bias="bias" in weights)
        linear.load_state_dict(weights)
    if inputs != width:
        raise model_source.ModelUnsupported(
            f"{path}: got a dense layer of {inputs} inputs after vectors of {width}, expected as many; copy the "
            f"model's files again, or choose another model, such as {MULTILINGUAL}"
        )
    return nn.Sequential(linear, getattr(nn, activation.rpartition(".")[2])()), outputs
