"""The replica as a room without endpoints: it starts and stops with the server, and other rooms read it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from streams.serve.replica import Replica
from streams.serve.rooms import Endpoint


class ReplicaRoom:
    """Runs a replica.

    Parameters
    ----------
    replica : Replica
    close_models : callable
        Ends the process of the replica's encoder; blocks.
    """

    def __init__(self, replica: Replica, close_models: Callable[[], None]) -> None:
        self.replica = replica
        self._close_models = close_models

    def endpoints(self) -> Sequence[Endpoint]:
        """Return none."""
        return ()

    def why_not_ready(self) -> list[str]:
        """Return why the replica does not follow Kafka any more; a replica that is catching up is no problem."""
        return [str(self.replica.error)] if self.replica.error else []

    async def start(self) -> None:
        """Begin to read, in the background."""
        await self.replica.start()

    async def stop(self) -> None:
        """Stop reading, and end the encoder's process."""
        await self.replica.stop()
        await asyncio.to_thread(self._close_models)
