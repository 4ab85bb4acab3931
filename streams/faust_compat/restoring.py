"""A fault of Faust's consumer while tables are restored from their changelogs. `consumer` uses the class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from faust.transport.drivers import aiokafka
from faust.types import TP

from streams.receive.message import Unreadable


class RestoresBatches(aiokafka.Consumer):
    """Fault: what Faust reads of a changelog past the end of a restore stays in a buffer until the next restore.

    That restore writes the buffer first, over states that were written since. (Found by reading 0.15.3.) Here records
    past the end are dropped: a later restore reads them again. Besides, Faust takes 150 us a record, which is a minute
    and a half for the states of 600,000 users; here a batch is restored at once. Faust gets the last record of each
    batch, and sees that it has that offset already.
    """

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        fetched = await super()._getmany(active_partitions, timeout)
        left = {tp: self._restored(tp, r) if self._is_changelog_tp(tp) else r for tp, r in fetched.items()}
        return {tp: records for tp, records in left.items() if records}

    def _restored(self, tp: TP, records: Sequence[Any]) -> Sequence[Any]:
        """Restore the records that are new, and return those that Faust is to get."""
        recovery = cast(Any, self.app.tables).recovery
        restored = recovery.active_offsets.get(tp)
        if not self.app.in_recovery or tp not in recovery.active_tps or restored is None:
            return []
        new = [r for r in records if r.offset > restored and not isinstance(r.value, Unreadable)]
        cast(Any, self.transport).restore(tp, new)
        recovery.active_offsets[tp] = max(restored, records[-1].offset)
        return records[-1:]
