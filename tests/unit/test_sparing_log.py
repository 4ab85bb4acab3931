"""Repeated lines are kept back and counted; others pass."""

from __future__ import annotations

import logging

from streams.sparing_log import MOST, MOST_TEMPLATES, WINDOW_S, Sparing


def record(text: str, *values: object) -> logging.LogRecord:
    return logging.LogRecord("kafka", logging.ERROR, "", 0, text, values, None)


def test_a_flood_becomes_a_few_lines_and_a_number() -> None:
    now_s = 0.0
    sparing = Sparing(lambda: now_s)
    flood = [record("no node %d", number) for number in range(500)]
    assert [sparing.filter(one) for one in flood] == [True] * MOST + [False] * (500 - MOST)
    assert sparing.filter(record("another %s", "thing"))
    now_s = WINDOW_S
    last = record("no node %d", 7)
    assert sparing.filter(last)
    assert last.getMessage() == f"no node 7 (and {500 - MOST} lines like this were kept back)"


def test_it_remembers_only_so_many() -> None:
    sparing = Sparing(lambda: 0.0)
    assert all(sparing.filter(record(f"line {number}")) for number in range(3 * MOST_TEMPLATES))
    assert len(sparing._seen) <= MOST_TEMPLATES
