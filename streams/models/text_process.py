"""The functions of the child process that holds a language model that writes. It has the lowest claim to the CPU."""

from __future__ import annotations

import os
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol

from encoders.models.device import Placement

if TYPE_CHECKING:
    from ranker.reasons.generator import TextGenerator

NICENESS = 10
"""Lists do not wait for texts: the processes that rank come first."""


class Choice(Protocol):
    """The settings of such a model: those of the reasons, or of the wishes."""

    @property
    def model(self) -> str | None: ...
    @property
    def device(self) -> str: ...
    @property
    def dtype(self) -> str: ...
    def __hash__(self) -> int: ...


@lru_cache(1)
def _generator(settings: Choice) -> TextGenerator:
    from ranker.reasons.generator import TextGenerator  # it imports torch, which a worker itself does without

    os.nice(NICENESS)
    return TextGenerator(settings.model or "", settings.device, settings.dtype)


def load(settings: Choice) -> Placement:
    """Load the model."""
    return _generator(settings).placement


def write(settings: Choice, prompts: list[str]) -> list[str]:
    """Return the model's answers to prompts; see `TextGenerator.write`."""
    return _generator(settings).write(prompts)
