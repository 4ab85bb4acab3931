"""Wishes that a language model has to read: they wait, unacknowledged, while other events go on.

The model works in the background. Knows no user's state.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures.process import BrokenProcessPool

from ranker.wishes import model_answer
from ranker.wishes.grammar import Wish
from streams.contracts import Preference
from streams.models.text_model import Writes
from streams.settings import Settings
from streams.state import wish_metrics
from streams.state.event_receiver import Change
from streams.state.wish_reader import Said, WishReader, said_in

logger = logging.getLogger(__name__)

MAX_WAITING = 256
"""Wishes that wait for the model; further ones are read by patterns alone. Chosen by us: minutes of a small model."""


class WaitingWishes:
    """The wishes that wait.

    Parameters
    ----------
    settings : Settings
        Of the worker. Without `wishes.model` no wish waits.
    reader : WishReader
        Gets what the model reads.
    """

    def __init__(self, settings: Settings, reader: WishReader) -> None:
        self._asks = settings.wishes.model is not None
        self._reader = reader
        self._waiting: dict[Said, list[Change]] = {}
        self._asked = asyncio.Event()

    def hold(self, change: Change) -> bool:
        """Keep a change until the model has read it. Returns whether the model has to."""
        message = change.decoded
        if not self._asks or not isinstance(message, Preference) or message.text is None:
            return False
        said = said_in(message)
        is_read = said in self._reader.answers or self._reader.read(message).wish is not None
        if is_read or len(message.text) > model_answer.MAX_TEXT:
            return False
        if said not in self._waiting and len(self._waiting) >= MAX_WAITING:
            wish_metrics.refused.labels("busy").inc()
            return False
        self._waiting.setdefault(said, []).append(change)
        self._asked.set()
        return True

    def release(self) -> list[Change]:
        """Give the changes that the model has read since; the reader answers for them until the next call."""
        answers = {said: wish for said, wish in self._reader.answers.items() if said in self._waiting}
        self._reader.answers = answers
        return [change for said in answers for change in self._waiting.pop(said)]

    def clear(self) -> None:
        """Discard what waits: none of it was acknowledged."""
        self._waiting.clear()

    async def run(self, model: Writes, wake: Callable[[], None]) -> None:
        """Let a model read what waits, the oldest first, for ever; `wake` has the changes released.

        Raises
        ------
        ModelNotFound, ModelUnsupported, DeviceUnavailable
            The model cannot be loaded.
        """
        try:
            await asyncio.to_thread(model.load)
            while True:
                said = next((one for one in self._waiting if one not in self._reader.answers), None)
                if said is None:
                    self._asked.clear()
                    await self._asked.wait()
                    continue
                self._reader.answers[said] = await self._ask(said, model)
                wake()
        finally:
            model.close()

    async def _ask(self, said: Said, model: Writes) -> Wish | None:
        try:
            [answer] = await asyncio.to_thread(model.write, [model_answer.prompt(said[0])])
        except BrokenProcessPool as error:
            logger.warning("a wish is read by patterns alone: %s", error)
            wish_metrics.refused.labels("failed").inc()
            return None
        found = model_answer.read(answer, *said, self._reader.zone)
        if isinstance(found, str):
            wish_metrics.refused.labels(found).inc()
            return None
        return found
