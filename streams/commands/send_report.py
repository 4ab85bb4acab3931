"""Run a sender, and say what became of every row: also after Ctrl-C, and where Kafka went away in the middle."""

from __future__ import annotations

import asyncio
import json
import sys

import typer

from encoders.errors import AfterclickError
from streams.commands.interruption import INTERRUPTED
from streams.commands.sending import Sender, SendPlan
from streams.datasets.messages import Replay
from streams.settings import Settings
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import SENTENCE, Field, Report, show


def send_and_report(replay: Replay, settings: Settings, plan: SendPlan, as_json: bool, repeatable: bool = True) -> None:
    """Send all messages of a replay, and print the counts.

    Parameters
    ----------
    replay : Replay
    settings : Settings
    plan : SendPlan
    as_json : bool
        Print JSON instead of a table.
    repeatable : bool
        The same command sends the same messages again.

    Raises
    ------
    AfterclickError
        Nothing was sent, because Kafka or its topics are not as needed.
    typer.Exit
        1: rows were left out because they are wrong, or none was for a topic; 2: Kafka went away in the middle; 130:
        Ctrl-C.
    """
    stopped, status = "", 0
    with progress_bar() as stage:
        sender = Sender(replay, settings, plan, stage("Sending"))
        try:
            asyncio.run(sender.run())
        except KeyboardInterrupt:
            stopped, status = "stopped by Ctrl-C", INTERRUPTED
        except AfterclickError as error:
            if sender.done == plan.skip:
                raise
            stopped, status = str(error), 2
    (_print_json if as_json else _print_table)(replay, settings, sender)
    if stopped:
        sys.stderr.write(f"afterclick: {stopped}{_how_to_go_on(sender) if repeatable else ''}\n")
    account = replay.account
    is_short = bool(account.first or sender.too_large or (account.rows and account.others == account.rows))
    if status or is_short:
        raise typer.Exit(status or 1)


def _how_to_go_on(sender: Sender) -> str:
    return (
        f"; Kafka has {sender.sent.total():,} messages of this run; run the same command again, an event counts "
        f"once, or go on from there: --skip {sender.done}"
    )


def _print_json(replay: Replay, _: Settings, sender: Sender) -> None:
    account = replay.account
    report = {
        "rows": account.rows,
        "sent": sender.sent,
        "done": sender.done,
        "others": account.others,
        "first_other": account.first_other,
        "superseded_items": account.superseded_items,
        "left_out": account.left_out,
        "first": account.first,
        "too_large": sender.too_large,
        "seconds": sender.seconds,
        "events_per_s": sender.events_per_s,
    }
    typer.echo(json.dumps(report))


def _print_table(replay: Replay, settings: Settings, sender: Sender) -> None:
    account = replay.account
    table = Report((Field("outcome", wrap=SENTENCE), Field("messages", number=True)), f"{account.rows:,} rows")
    for topic in replay.topics:
        table.add(f"sent to {settings.topic(topic)}", f"{sender.sent[topic]:,}")
    if account.superseded_items:
        table.add("items of which a later row is sent, or which are as before", f"{account.superseded_items:,}")
    if account.others:
        table.add(f"rows for none of these topics\nfirst: {account.first_other}", f"{account.others:,}")
    for reason, number in account.left_out.items():
        first = f"\nfirst: {account.first[reason]}" if reason in account.first else ""
        table.add(f"left out: {reason.replace('_', ' ')}{first}", f"{number:,}")
    if sender.too_large:
        table.add("left out: larger than Kafka takes", f"{sender.too_large:,}")
    table.caption = f"{sender.seconds:.1f} s, {sender.events_per_s:,.0f} events/s"
    show(table)
