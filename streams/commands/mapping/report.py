"""Print what the records of a topic become: for a person, or as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

import msgspec
from rich.console import Console, RenderableType
from rich.text import Text

from streams.commands.dead_letter_commands import printable
from streams.commands.mapping.examine import MappingReport
from streams.commands.mapping.outcomes import NOT_OURS, Example, Outcome
from streams.commands.mapping.proposal import UNKNOWN, as_toml
from streams.kafka.reject import summary
from streams.terminal.report import SENTENCE, Field, Report, show

FIELDS_SHOWN, CAUSES_SHOWN = 60, 20
EXAMPLE_CHARACTERS = 40


def as_json(report: MappingReport) -> bytes:
    """Return the report in JSON, whole."""
    fields = [
        {"path": one.path, "records": one.records, "example": one.example, "distinct": len(one.values)}
        for one in report.fields
    ]
    return msgspec.json.encode(
        {
            "topic": report.topic,
            "partitions": report.partitions,
            "records": report.records,
            "outcomes": report.outcomes,
            "fields": fields,
            "proposed": report.proposed,
            "unreadable": report.unreadable,
        }
    )


def write(report: MappingReport, console: Console) -> None:
    """Print the report for a person."""
    partitions = f"{report.partitions} partition{'s' if report.partitions > 1 else ''}"
    console.print(Text(f"{report.topic}, {partitions}: {_span(report)}"), soft_wrap=True)
    parts = list(_configured(report) if report.is_configured else _surveyed(report))
    if parts:
        console.print()
        show(*parts, console=console)


def _span(report: MappingReport) -> str:
    if not report.records:
        return "no records"
    first, last = (datetime.fromtimestamp(ms / 1000, timezone.utc) for ms in (report.first_ms, report.last_ms))
    return f"the newest {report.records:,} records, {first:%Y-%m-%d %H:%M:%S}Z to {last:%Y-%m-%d %H:%M:%S}Z"


def _configured(report: MappingReport) -> Iterator[RenderableType]:
    if report.outcomes:
        yield _outcomes(report.outcomes, report.records)
        yield from _causes(report.outcomes)
        yield from (_example(one.name, example) for one in report.outcomes for example in one.examples)


def _surveyed(report: MappingReport) -> Iterator[RenderableType]:
    yield Text("Nothing in the settings names this topic.")
    for what, count in report.unreadable.items():
        yield Text(f"{count:,} record{'s' if count > 1 else ''}: {what}")
    if report.fields:
        yield _fields(report)
    if not report.proposed:
        yield Text("No field has a usual name of a user, an item or a title: write [topics.clicks] yourself.")
        return
    yield Text("To start from:")
    yield Text(as_toml(report.proposed), no_wrap=True, overflow="ignore")
    if report.outcomes:
        yield _outcomes(report.outcomes, report.records, "What it makes of these records")
        yield from _causes(report.outcomes)
    first = f"Put the paths in for {UNKNOWN}" if UNKNOWN in str(report.proposed) else "Read it, add what only you know"
    yield Text(
        f"{first}, write it to a file, and see what each record becomes:\n"
        f"  afterclick map {report.topic} --config afterclick.toml",
        no_wrap=True,
        overflow="ignore",
    )


def _outcomes(outcomes: Sequence[Outcome], records: int, title: str = "") -> Report:
    fields = [Field(heading, number=True) for heading in ("records", "share", "messages")]
    table = Report([Field("outcome"), *fields], title=title)
    for one in outcomes:
        messages = f"{one.messages:,}" if one.messages else ""
        table.add(one.name, f"{one.records:,}", f"{one.records / records:.1%}", messages)
    return table


def _causes(outcomes: Sequence[Outcome]) -> Iterator[RenderableType]:
    for one in outcomes:
        if one.causes:
            heading = "because of" if one.name == NOT_OURS else "because"
            table = Report([Field(f"{one.name} {heading}", wrap=SENTENCE), Field("records", number=True)])
            for cause, count in one.causes.most_common(CAUSES_SHOWN):
                table.add(cause, f"{count:,}")
            if (left := len(one.causes) - CAUSES_SHOWN) > 0:
                table.caption = f"and {left:,} more: --json has all"
            yield table
    for one in outcomes:
        if one.coerced:
            yield Text(f"{one.name}: deviations from the contract that are accepted: {summary(one.coerced)}")


def _example(name: str, example: Example) -> RenderableType:
    where = f"{name}: {example.partition}/{example.offset}, key {printable(example.key)}"
    lines = [where, f"  {printable(example.value)}"]
    lines += [f"  error: {example.error}"] if example.error else []
    for key, message in zip(example.keys, example.messages, strict=True):
        lines.append(f"  -> deletes {key}" if message is None else f"  -> {bytes(message).decode()}")
    return Text("\n".join(lines), overflow="ignore", no_wrap=True)


def _fields(report: MappingReport) -> Report:
    count = sum(1 for _ in report.fields)
    table = Report(
        [Field("path"), Field("records", number=True), Field("share", number=True), Field("example", wrap=SENTENCE)],
        caption="" if count <= FIELDS_SHOWN else f"and {count - FIELDS_SHOWN:,} paths more: --json has all",
    )
    for one in report.fields[:FIELDS_SHOWN]:
        share = f"{one.records / report.records:.1%}"
        table.add(one.path, f"{one.records:,}", share, _shortened(one.example))
    return table


def _shortened(value: Any) -> str:
    text = printable(str(value).lower().encode() if isinstance(value, bool) else str(value).encode())
    return text if len(text) <= EXAMPLE_CHARACTERS else f"{text[:EXAMPLE_CHARACTERS]}…"
