"""Scripts for one key each. Calls of one script that go to one server travel as one command, and so do reads.

A command costs the client more than what it does: 250 lists written by one command take 8 us each of the worker's
processor time, by a command for each list 19 us. To read a list of 3 KB by `MGET` costs Redis 3 us, by a script 10 us:
Lua hashes all of every string that it gets. Knows no connection.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any, NamedTuple

Command = tuple[Any, ...]
"""As redis-py takes it: `("GET", key)`; the first key is the only one."""
MOST_TOGETHER = 64
"""Calls in a command, for which Redis does nothing else for a millisecond. With 256 a list of 3 KB takes four times as
long to pack. Chosen by us."""

_FOR_EACH_KEY = """
local function of_one(key, a, b, c, d, e) %s end
local answers, width = {}, #ARGV / #KEYS
for i, key in ipairs(KEYS) do
  answers[i] = of_one(key, unpack(ARGV, (i - 1) * width + 1, i * width))
end
return answers
"""


class KeyScript(NamedTuple):
    """A call of a script. Its key is where an ordinary command has it.

    Attributes
    ----------
    body : str
        Of a Lua function of `key` and at most five arguments `a` to `e`. It returns the answer, which is not nil; what
        it calls by `redis.pcall` may be one that failed.
    key : str
        The only key that it uses.
    arguments : tuple
        As many in each call of the script.
    """

    body: str
    key: str
    arguments: tuple[Any, ...] = ()


def together(calls: Sequence[Command | KeyScript], most: int) -> Iterator[tuple[Command, int]]:
    """Give the commands to send, and for each how many calls it stands for; 0 for an ordinary command.

    Parameters
    ----------
    calls : sequence of Command or KeyScript
        In their order, which is kept.
    most : int
        Calls of a script, or `GET`s, in a command.
    """
    for kind, group in groupby(calls, _kind):
        same = list(group)
        if kind is None or (kind == "GET" and min(most, len(same)) == 1):
            yield from ((tuple(command), 0) for command in same)
            continue
        for begin in range(0, len(same), most):
            part = same[begin : begin + most]
            keys = [call[1] for call in part]
            if kind == "GET":
                yield ("MGET", *keys), len(keys)
            else:
                arguments = [argument for call in part for argument in call[2]]
                yield ("EVAL", _FOR_EACH_KEY % kind, len(keys), *keys, *arguments), len(keys)


def _kind(call: Command | KeyScript) -> str | None:
    """What calls have in common that may travel together: the script, or that they read; None for any other command."""
    if isinstance(call, KeyScript):
        return call.body
    return "GET" if call[0] == "GET" else None


def apart(numbers: Sequence[int], answers: Sequence[Any]) -> Iterator[Any]:
    """Give the answer of each call. A command that failed as a whole has failed for each of its calls."""
    for number, answer in zip(numbers, answers, strict=True):
        if number and not isinstance(answer, Exception):
            yield from answer
        else:
            yield from [answer] * max(1, number)
