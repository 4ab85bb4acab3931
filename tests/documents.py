"""The README files: their code blocks; the tables of deploy/README.md and the schemas, generated from the code.

`python -m tests.documents` (`make docs`) writes the tables and `deploy/schemas/` anew.
"""

from __future__ import annotations

import ast
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from streams.commands.plan import examples
from streams.commands.schema import STRUCTS, schema_of
from streams.commands.settings import Format, write
from streams.sizing.costs import DEFAULTS

ROOT = Path(__file__).parents[1]
DOCUMENTS = ("README.md", "deploy/README.md", "ranker/README.md", "streams/README.md", ".github/CONTRIBUTING.md")
DEPLOY = "deploy/README.md"
SCHEMAS = ROOT / "deploy" / "schemas"


@dataclass(frozen=True)
class Block:
    """A code block of a document: its language, its text, and the number of its first line, from 1."""

    document: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.document}:{self.line}"


@dataclass(frozen=True)
class Metric:
    """A Prometheus metric as the code declares it."""

    name: str
    labels: tuple[str, ...]
    help: str

    def __str__(self) -> str:
        return f"{self.name}{'{' + ','.join(self.labels) + '}' if self.labels else ''}"


def text_of(document: str) -> str:
    return (ROOT / document).read_text(encoding="utf-8")


def blocks(document: str) -> Iterator[Block]:
    """Yield every fenced block of a document."""
    text = text_of(document)
    for match in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield Block(document, text.count("\n", 0, match.start()) + 1, match[1], match[2])


def metrics() -> list[Metric]:
    """Read every metric from the calls in the source that declare one: those whose first argument is its name."""
    paths = [ROOT / "streams/metrics.py", *sorted((ROOT / "streams").rglob("*.py"))]
    calls = [
        node
        for path in dict.fromkeys(paths)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and len(node.args) > 1 and str(_constant(node.args[0])).startswith("afterclick_")
    ]
    declared = [_metric(call) for call in calls if isinstance(_constant(call.args[1]), str)]
    return [metric for metric in declared if metric is not None]


def _metric(call: ast.Call) -> Metric | None:
    """Read `Counter(name, help, [labels])`, or a counter of a collector by model: `(name, help, fields, label)`.

    A `CounterMetricFamily(name, help, labels=[...])` counts as well.
    """
    kind = call.func.id.removesuffix("MetricFamily") if isinstance(call.func, ast.Name) else ""
    if not kind.endswith(("Counter", "Gauge", "Histogram")):
        return None
    name, text = str(_constant(call.args[0])), str(_constant(call.args[1]))
    if kind.endswith("Counter"):
        name = name.removesuffix("_total") + "_total"
    rest = [*call.args[2:], *(keyword.value for keyword in call.keywords if keyword.arg == "labels")]
    if isinstance(call.func, ast.Name) and call.func.id.endswith("MetricFamily"):
        rest = [part for part in rest if isinstance(part, ast.List)]
    if rest and isinstance(rest[0], ast.List):
        return Metric(name, tuple(str(_constant(label)) for label in rest[0].elts), text)
    labels = ("model", *(str(_constant(label)) for label in rest[1:])) if rest else ()
    return Metric(name, labels, text)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


def settings_table() -> str:
    console = Console(file=io.StringIO(), width=80)
    write(Format.markdown, console)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def metrics_table() -> str:
    rows = [f"| `{metric}` | {metric.help} |" for metric in metrics()]
    return "\n".join(["| metric | meaning |", "|---|---|", *rows, ""])


def sizing_table() -> str:
    return examples(DEFAULTS)


GENERATED = {
    "afterclick settings --markdown": settings_table,
    "metrics": metrics_table,
    "afterclick plan": sizing_table,
}
"""The tables of deploy/README.md by the comment that stands before each."""


def table_of(document: str, name: str) -> str:
    """Return the generated table that stands in a document."""
    (table,) = re.findall(rf"<!-- {re.escape(name)} -->\n(.*?)<!-- end -->", text_of(document), re.DOTALL)
    return str(table)


def schema_files() -> dict[str, str]:
    """Return the text of every file in deploy/schemas/ by its name."""
    return {f"{name}.json": json.dumps(schema_of(name), indent=2) + "\n" for name in STRUCTS}


def main() -> None:
    """Write the generated tables and schemas anew."""
    text = text_of(DEPLOY)
    for name, table in GENERATED.items():
        before, start, rest = text.partition(f"<!-- {name} -->\n")
        text = f"{before}{start}{table()}<!-- end -->{rest.partition('<!-- end -->')[2]}"
    (ROOT / DEPLOY).write_text(text, encoding="utf-8")
    SCHEMAS.mkdir(exist_ok=True)
    for old in SCHEMAS.glob("*.json"):
        old.unlink()
    for file, schema in schema_files().items():
        (SCHEMAS / file).write_text(schema, encoding="utf-8")


if __name__ == "__main__":
    main()
