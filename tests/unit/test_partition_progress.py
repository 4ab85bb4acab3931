"""How many lists may be missing in Redis, as far as a worker knows."""

from __future__ import annotations

from streams.publish.list_cache import OutgoingList, WriteOutcome
from streams.publish.partition_progress import PartitionProgress

PARTITIONS = 4


def progress_of(*owned: int) -> PartitionProgress:
    """These partitions are complete up to offset 10."""
    progress = PartitionProgress()
    progress.own(owned)
    progress.ends = dict.fromkeys(owned, 10)
    progress.note_checkpoints(dict.fromkeys(owned, 10))
    return progress


def test_lists_that_redis_took_are_not_pending() -> None:
    progress = progress_of(0, 1)
    progress.note_list(0, 10, WriteOutcome.STORED)
    assert progress.pending() == 0


def test_after_a_failure_all_lists_since_the_checkpoint_are_pending() -> None:
    progress = progress_of(0, 1)
    for offset, outcome in ((12, WriteOutcome.RETRY), (11, WriteOutcome.RETRY), (14, WriteOutcome.STORED)):
        progress.note_list(0, offset, outcome)
    assert progress.failed == {0: 11}
    assert progress.pending() == 5
    progress.note_list(3, 7, WriteOutcome.RETRY)  # another worker's partition
    assert progress.pending() == 6


def test_without_a_checkpoint_all_lists_since_the_last_complete_offset_are_pending() -> None:
    progress = progress_of(0, 1)
    progress.note_list(1, 12, WriteOutcome.STORED)
    progress.checkpoints = {}
    assert progress.pending() == 3


def test_a_list_whose_key_is_refused_is_pending_until_redis_takes_a_list() -> None:
    progress = progress_of(*range(PARTITIONS))
    progress.note_keys([OutgoingList("ann", b"")], [WriteOutcome.REFUSED])
    assert progress.pending() == 1
    progress.note_keys([OutgoingList("ann", b"")], [WriteOutcome.STORED])
    assert progress.pending() == 0


def test_revoked_partitions_are_forgotten_and_new_ones_begin_unknown() -> None:
    progress = progress_of(0, 1)
    progress.note_keys([OutgoingList("ann:cart", b"", partition=0)], [WriteOutcome.REFUSED])
    progress.own([1, 2])
    assert progress.checkpoints == progress.complete_to == {1: 10}
    assert progress.pending() == 0, "neither the refused list nor the new partition's, whose end is unknown"
    progress.own([0, 1])
    assert 0 not in progress.ends, "another worker may have written there meanwhile"
