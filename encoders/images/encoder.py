"""Pictures to vectors of length 1, with a CLIP or SigLIP model.

Knows no item. For one thread at a time.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from encoders.interest import Vector
from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.models.source import ModelUnsupported

BATCH = 16
"""Pictures of a forward pass; chosen by us: more are not faster on a CPU."""
_PROCESSORS = {
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "chinese_clip": "ChineseCLIPImageProcessor",
}
"""What prepares the pictures for a folder that does not say so, by `model_type`."""


class ImageEncoder:
    """A CLIP or SigLIP model; of its two parts the one that reads pictures.

    Parameters
    ----------
    model : str
        A folder, an installed package's model, or a hub name.
    device, dtype : str
        See `encoders.models.device.choose`.

    Attributes
    ----------
    placement : Placement

    Raises
    ------
    ModelNotFound
    ModelUnsupported
        The model has no part that reads pictures alone, or nothing that prepares them.
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self.placement = choose(device, dtype)
        self._processor = _processor(model, folder)
        self._model = model_source.load_weights("AutoModel", model, folder, self.placement)
        if not hasattr(self._model, "get_image_features"):
            raise ModelUnsupported(
                f"model: got {model!r}, a {type(self._model).__name__}, expected CLIP or SigLIP, which read pictures"
            )

    def encode(self, pictures: Sequence[Image.Image]) -> Vector:
        """Return the vectors of RGB pictures, (len(pictures), dim) float32, rows of length 1."""
        parts = [self._encode(pictures[begin : begin + BATCH]) for begin in range(0, len(pictures), BATCH)]
        return np.concatenate(parts)

    def _encode(self, pictures: Sequence[Image.Image]) -> Vector:
        pixels = self._processor(images=list(pictures), return_tensors="pt")["pixel_values"]
        features: Any = self._model.get_image_features(pixel_values=pixels.to(self._model.device, self._model.dtype))
        vectors = getattr(features, "pooler_output", features).float()
        normal: Vector = torch.nn.functional.normalize(vectors, dim=1).cpu().numpy()
        return normal


def _processor(model: str, folder: Path) -> Any:
    """What prepares pictures, as the folder says, computed by Pillow: torchvision would be a package more."""
    import transformers

    described = model_source.read_json(folder, "preprocessor_config.json", dict) or {}
    config = model_source.read_json(folder, "config.json", dict) or {}
    named = described.get("image_processor_type") or described.get("feature_extractor_type")
    name = str(named or _PROCESSORS.get(str(config.get("model_type")), "")).removesuffix("Fast")
    kind = getattr(transformers, f"{name.replace('FeatureExtractor', 'ImageProcessor')}Pil", None) if name else None
    if kind is None or not described:
        raise ModelUnsupported(
            f"model: got {model!r}, whose preprocessor_config.json names no image processor that we know "
            f"({name or 'none'}), expected a CLIP or SigLIP folder, whole; copy its files again"
        )
    return kind.from_pretrained(folder)
