"""`afterclick dead-letters`, as Typer reads it: list the rejected messages, and send corrected ones again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Annotated

import msgspec
import typer

from streams.commands import dead_letters
from streams.commands.completion import INPUTS, one_of
from streams.commands.dead_letter_filter import LetterFilter, LetterGroup, StoredDeadLetter, since_ms
from streams.commands.interruption import interruptible
from streams.commands.options import Config
from streams.kafka.record_time import now_ms
from streams.settings import load
from streams.terminal.report import SENTENCE, Field, Report, show

SHOWN_CHARACTERS = 200

Shown = Annotated[int, typer.Option("--limit", min=1, help="The number of newest messages to show.")]
Most = Annotated[int | None, typer.Option("--limit", min=1, help="The largest number of messages to send.")]
JsonLines = Annotated[bool, typer.Option("--json", help="Print one JSON object a line, payload and key in base64.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print what would be sent, and send nothing.")]
OfTopic = Annotated[
    str | None,
    typer.Option("--topic", help="Only messages rejected from this topic.", autocompletion=one_of(*INPUTS)),
]
OfReason = Annotated[
    str | None, typer.Option("--reason", help="Only messages whose error or cause has these words in it.")
]
Since = Annotated[
    str | None, typer.Option(help="Only messages rejected since then: 30m, 2h, 7d, 2026-11-01, 2026-11-01T08:00Z.")
]

commands = typer.Typer(no_args_is_help=True)


@commands.command("list")
def list_letters(
    topic: OfTopic = None,
    reason: OfReason = None,
    since: Since = None,
    limit: Shown = 5,
    config: Config = None,
    json: JsonLines = False,
) -> None:
    """Show the rejected messages by topic and cause, and the newest ones."""
    wanted = _filter(topic, reason, since)
    listed = asyncio.run(dead_letters.read(load(config), limit, wanted))
    if json:
        for stored in listed.newest:
            typer.echo(msgspec.json.encode(stored))
    elif listed.newest:
        letters = [(stored, stored.letter.error) for stored in listed.newest]
        show(grouped(listed.groups), each(letters, "error", f"the newest {len(letters)}, the newest last"))
    else:
        typer.echo("no dead letters" if wanted == LetterFilter() else "no dead letters that fit")


@commands.command("retry")
def retry_letters(
    topic: OfTopic = None,
    reason: OfReason = None,
    since: Since = None,
    limit: Most = None,
    dry_run: DryRun = False,
    config: Config = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send rejected messages again, each of them once.

    What the options leave out is there for a later call. The status is 1 if some messages cannot be sent.
    """
    with interruptible(
        lambda: (
            f"what was sent is noted in Kafka, but for {dead_letters.BATCH} messages at most, which "
            "the same command sends a second time; they count once"
        )
    ):
        result = asyncio.run(dead_letters.retry(load(config), dry_run, _filter(topic, reason, since), limit))
    if as_json:
        typer.echo(msgspec.json.encode({"dry_run": dry_run, **msgspec.structs.asdict(result)}))
    else:
        left = f", left {result.left:,} for a later call" if result.left else ""
        sent = "would send" if dry_run else "sent"
        typer.echo(f"{sent} {result.sent:,}, cannot send {len(result.unsendable):,}{left}")
        if result.unsendable:
            show(each(result.unsendable, "reason"))
    if result.unsendable:
        raise typer.Exit(1)


def _filter(topic: str | None, reason: str | None, since: str | None) -> LetterFilter:
    return LetterFilter(topic, reason, None if since is None else since_ms(since, now_ms()))


def grouped(groups: Sequence[LetterGroup]) -> Report:
    """Draw the letters by topic and cause."""
    fields = (Field("messages", number=True), Field("topic"), Field("cause", wrap=SENTENCE))
    columns = (*fields, Field("first"), Field("last"), Field("newest error", wrap=SENTENCE))
    report = Report(columns, "messages by topic and cause", keys=3)
    for group in groups:
        texts = printable(group.cause.encode()), _time(group.first_ms), _time(group.last_ms)
        report.add(f"{group.count:,}", printable(group.topic.encode()), *texts, printable(group.reason.encode()))
    return report


def each(rows: Sequence[tuple[StoredDeadLetter, str]], reason_heading: str, title: str = "") -> Report:
    """Draw single letters."""
    words = [Field(heading, wrap=SENTENCE) for heading in (reason_heading, "payload")]
    report = Report((Field("stored"), Field("letter"), Field("rejected message"), *words), title, keys=3)
    for stored, reason in rows:
        letter = stored.letter
        report.add(
            _time(stored.stored_at),
            f"{stored.partition}/{stored.offset}",
            printable(f"{letter.topic}/{letter.partition}/{letter.offset}".encode()),
            printable(reason.encode()),
            printable(letter.payload) + ("" if letter.payload_bytes is None else f" of {letter.payload_bytes:,}"),
        )
    return report


def _time(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, timezone.utc):%Y-%m-%dT%H:%M:%SZ}"


def printable(payload: bytes | None) -> str:
    r"""Show bytes on a terminal: a character that does not print becomes a dot, and a long text is truncated.

    >>> printable(b'{"title": "\x1b[31mred"}')
    '{"title": "·[31mred"}'
    """
    if payload is None:
        return "null"
    text = payload.decode(errors="replace")
    shown = "".join(letter if letter.isprintable() else "·" for letter in text[:SHOWN_CHARACTERS])
    return shown if len(text) <= SHOWN_CHARACTERS else f"{shown}… ({len(payload):,} bytes)"
