"""The order and the headings of `afterclick --help`, and an example for each command. Knows no command's work.

What a person needs first comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from typer.core import TyperGroup

from streams.commands.interruption import Interrupted

CONTENTS: dict[str, dict[str, tuple[str, ...]]] = {
    "Try it": {"demo": ("demo", "demo --web")},
    "Run it": {
        "doctor": ("doctor", "doctor --config afterclick.toml"),
        "worker": ("worker", "worker --role rank --config afterclick.toml"),
        "serve": ("serve --web",),
        "settings": ("settings --set", "settings --toml > afterclick.toml"),
        "topics": ("topics --diff",),
    },
    "Events in": {
        "schema": ("schema clicks",),
        "map": ("map shop-events --sample 100",),
        "import": ("import segment events.json",),
        "replay": ("replay files --items items.jsonl --clicks clicks.jsonl",),
        "dead-letters": ("dead-letters list", "dead-letters retry --dry-run"),
    },
    "Lists out": {
        "recommend": ("recommend u1",),
        "rules": ("rules check rules.toml", "rules explain u1"),
        "preferences": ("preferences u1", 'preferences u1 --add "nothing with fur this week"'),
        "forget": ("forget u1",),
    },
    "Make it yours": {
        "embed-images": ("embed-images --model clip-vit-base-patch32 --items items.jsonl --out embedded.jsonl",),
        "export": ("export --epsilon 8 --out exported --items items.jsonl --clicks clicks.jsonl",),
        "evaluate": ("evaluate --protocol next-basket --items items.jsonl --clicks clicks.jsonl",),
        "simulate": ("simulate --users 100 --plot month.png", "simulate --ranker greedy --ranker shop.toml"),
        "train": ("train --base none --out my-model --items items.jsonl --clicks clicks.jsonl",),
        "compress": ("compress my-model --int8 --out small --items items.jsonl --clicks clicks.jsonl",),
    },
    "Size it": {
        "plan": ("plan --users 1000000 --events-per-second 500 --items 100000",),
        "bench": ("bench scorer",),
    },
}
"""Heading -> the names of its commands -> examples, without the word `afterclick`."""
EXAMPLES: dict[str, tuple[str, ...]] = {
    "replay online-retail": ("replay online-retail online_retail.csv.gz --limit 10000",),
    "replay files": (
        "replay files --items items.jsonl --clicks clicks.jsonl",
        "replay files --clicks c.jsonl --speed 10",
    ),
    "replay shop": ("replay shop --per-second 20",),
    "rules check": ("rules check rules.toml",),
    "rules explain": ("rules explain u1 --placement cart",),
    "dead-letters list": ("dead-letters list --topic clicks --since 2h",),
    "dead-letters retry": ("dead-letters retry --reason 'unknown field' --dry-run",),
}
"""Of the commands of a group: name of the group and of the command -> examples."""


class Contents(TyperGroup):
    """The group of all commands, in the order of `CONTENTS`. Ctrl-C ends any of them with one line."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for heading, names in CONTENTS.items():
            for name in names.keys() & self.commands.keys():
                command: Any = self.commands[name]
                command.rich_help_panel = heading
                _complete(command, names[name])
                for inner, one in getattr(command, "commands", {}).items():
                    _complete(one, EXAMPLES.get(f"{name} {inner}", ()))

    def list_commands(self, ctx: Any) -> list[str]:
        """Name the commands as `--help` lists them."""
        ordered = [name for names in CONTENTS.values() for name in names if name in self.commands]
        return [*ordered, *(name for name in self.commands if name not in ordered)]

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise Interrupted("interrupted") from None


def all_examples() -> Iterator[str]:
    """Yield every example."""
    for names in (*CONTENTS.values(), EXAMPLES):
        for lines in names.values():
            yield from lines


def _complete(command: Any, examples: tuple[str, ...]) -> None:
    """Put examples below a command's help, and join the lines of each of its paragraphs."""
    command.help = "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n"))
    if examples:
        heading = "Example:" if len(examples) == 1 else "Examples:"
        command.epilog = "\n\n".join([heading, *(f"  afterclick {line}" for line in examples)])
