"""A small CLIP that was trained on drawn pictures and captions of them, as a real one was on those of the web.

It saw other pictures than those of the shop, and knows the words of colours, shapes and patterns.
"""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

import torch
from transformers import CLIPModel

from encoders.images.encoder import ImageEncoder
from tests import models
from tests.drawn_shop import COLOURS, PATTERNS, SHAPES, draw

OF_EACH, STEPS, RATE = 12, 200, 2e-3
WORDS = [*COLOURS, *SHAPES, *PATTERNS]


def trained_clip(folder: Path, seed: int = 99) -> Path:
    """Write the model: one picture of each kind in every step, told from the captions of all others."""
    rng = random.Random(seed)
    encoder = ImageEncoder(str(models.clip(folder)), "cpu", "float32")
    kinds = list(product(COLOURS, SHAPES, PATTERNS))
    drawn = [[draw(rng, COLOURS[colour], shape, pattern) for colour, shape, pattern in kinds] for _ in range(OF_EACH)]
    pixels = [encoder._processor(images=pictures, return_tensors="pt")["pixel_values"] for pictures in drawn]
    captions = torch.tensor([[0, *(2 + WORDS.index(word) for word in kind), 1] for kind in kinds])
    model = CLIPModel.from_pretrained(folder).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=RATE)
    for step in range(STEPS):
        optimiser.zero_grad()
        model(input_ids=captions, pixel_values=pixels[step % OF_EACH], return_loss=True).loss.backward()
        optimiser.step()
    model.eval().save_pretrained(folder)
    return folder
