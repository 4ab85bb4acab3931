"""The README files are true: every block, name, link and generated table in them.

Which test runs a code block:

- `python`, `json` and `toml` blocks run here, the Kafka of the producer's example being the embedded one.
- `sh` blocks that need a Kafka and a worker (README.md: Produce, Consume) run in `tests/integration/test_documents.py`.
- All other `sh` lines are parsed here: `afterclick` by its own parser, with every option and value; `make` by the
  targets and variables of the Makefile; `pip` by the extras. What they do has tests of its own: `train`, `evaluate` and
  `compress` take minutes and a log, `bench` and `make faults` minutes.
"""

from __future__ import annotations

import hmac
import importlib.util
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer

from streams import cli
from streams.contracts import TOPICS, Recommendations
from streams.receive.decode import receive
from streams.receive.message import Message
from streams.receive.pseudonym import pseudonym
from streams.settings import PREFIX, Settings, load
from streams.settings.table import rows
from streams.testing.embedded import EmbeddedKafka
from tests import documents
from tests.documents import DOCUMENTS, ROOT, Block, blocks, text_of

VARIABLES = {row.variable for row in rows(Settings)}
NOW_MS = 1_795_400_000_000
BLOCKS = [block for document in DOCUMENTS for block in blocks(document)]
ASSIGNMENT = re.compile(r"(\w+)=(.*)", re.DOTALL)


def of_language(language: str) -> list[Block]:
    return [block for block in BLOCKS if block.language == language]


def shell_lines() -> list[tuple[str, list[str]]]:
    """The words of every line of every `sh` block, with where it stands; without comments and redirections."""
    found = []
    for block in of_language("sh"):
        for number, line in enumerate(block.text.splitlines(), block.line + 1):
            if words := shlex.split(line.partition(" > ")[0], comments=True):
                found.append((f"{block.document}:{number}", words))
    return found


def code_spans(document: str) -> Iterator[str]:
    """Yield every `code` in the text of a document, outside its blocks; an escaped bar of a table is a bar."""
    text = re.sub(r"^```.*?^```$", "", text_of(document), flags=re.DOTALL | re.MULTILINE)
    for match in re.finditer(r"`([^`\n]+)`", text):
        yield match[1].replace(r"\|", "|")


def test_the_readme_is_short_and_begins_with_two_commands() -> None:
    text = text_of("README.md")
    assert len(text.splitlines()) <= 200
    first = next(blocks("README.md"))
    assert [line.split("#")[0].strip() for line in first.text.splitlines()] == ["make demo", "make test"]


@pytest.mark.parametrize("name", documents.GENERATED)
def test_a_generated_table_is_up_to_date(name: str) -> None:
    """`make docs` renews it."""
    assert documents.table_of(documents.DEPLOY, name) == documents.GENERATED[name]()


def test_every_metric_is_in_the_table_once() -> None:
    from prometheus_client import Counter, Gauge, Histogram

    from streams import metrics

    declared = {metric.name for metric in documents.metrics()}
    assert len(declared) == len(documents.metrics())
    for value in vars(metrics).values():
        if isinstance(value, Counter | Gauge | Histogram):
            name = value._name + ("_total" if isinstance(value, Counter) else "")
            assert name in declared


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_metric_in_a_document_exists(document: str) -> None:
    declared = {metric.name: metric.labels for metric in documents.metrics()}
    for name, labels in re.findall(r"\b(afterclick_[a-z_]+)(?:\{([^}]*)\})?", text_of(document)):
        assert name in declared, f"{document}: {name}"
        named = {label.partition("=")[0] for label in labels.split(",") if label}
        assert named <= set(declared[name]), f"{document}: {name}: {named}"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_setting_in_a_document_exists(document: str) -> None:
    """`…__PORT` continues the group of the setting before it."""
    groups: list[str] = []
    for name, shortened in re.findall(rf"({PREFIX}[A-Z0-9_]+[A-Z0-9])|…__([A-Z_]+)", text_of(document)):
        if name == f"{PREFIX}PORT":  # the example of what is none
            continue
        full = name or next((f"{group}__{shortened}" for group in groups if f"{group}__{shortened}" in VARIABLES), "")
        assert full in VARIABLES, f"{document}: {name or '…__' + shortened}"
        groups = [full.rpartition("__")[0], *groups[:3]]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_and_every_path_leads_somewhere(document: str) -> None:
    folder = (ROOT / document).parent
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text_of(document)):
        path, _, anchor = target.partition("#")
        file = folder / path if path else ROOT / document
        assert file.exists(), f"{document}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{document}: {target}"
    for span in code_spans(document):
        if re.fullmatch(r"(streams|ranker|encoders|tests|deploy)/[\w/.-]*", span):
            assert (ROOT / span).exists(), f"{document}: {span}"


@pytest.mark.parametrize(("where", "words"), shell_lines(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_line_for_the_shell_can_be_run(where: str, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    exported = words[0] == "export"
    words = words[1:] if exported else words
    while words and (match := ASSIGNMENT.fullmatch(words[0])):
        monkeypatch.setenv(match[1], match[2])
        words = words[1:]
    load()  # every variable is a setting, and has a value that it takes
    if not words:
        assert exported
        return
    program, *arguments = words
    {"afterclick": check_afterclick, "make": check_make, "pip": check_pip, "python": check_python, "git": check_git}[
        program
    ](arguments)


def check_afterclick(arguments: list[str]) -> None:
    """Parse the line as the command would, down to the last option; run nothing."""
    cli.mount()
    command: Any = typer.main.get_command(cli.app)
    context, rest = None, arguments
    while True:
        try:
            context = command.make_context("afterclick", list(rest), parent=context)
        except typer.Exit:  # --version
            return
        if not hasattr(command, "commands"):
            return
        rest = [*getattr(context, "_protected_args", []), *context.args]
        _, command, rest = command.resolve_command(context, rest)


def check_make(arguments: list[str]) -> None:
    text = text_of("Makefile")
    for argument in arguments:
        match = ASSIGNMENT.fullmatch(argument)
        assert re.search(rf"^{match[1]} \?=" if match else rf"^{argument}:", text, re.MULTILINE), argument


def check_pip(arguments: list[str]) -> None:
    assert arguments[0] == "install"
    if "-c" in arguments:
        assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()
    for extra in re.findall(r"\[(\w+)\]", " ".join(arguments)):
        assert re.search(rf"^{extra} = \[", text_of("pyproject.toml"), re.MULTILINE), extra


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m"
    assert importlib.util.find_spec(arguments[1]) is not None


def check_git(arguments: list[str]) -> None:
    assert arguments[0] in ("switch", "push", "commit", "clone")


def test_every_command_in_the_text_can_be_run() -> None:
    """A command in the text is parsed too, if it is whole: `afterclick recommend u1`, `make fuzz`."""
    for document in DOCUMENTS:
        for span in code_spans(document):
            words = shlex.split(span) if span.startswith(("afterclick ", "make ")) and "|" not in span else []
            if "..." in words:
                continue
            if words[:1] == ["make"]:
                check_make(words[1:])
            elif len(words) == 2 and words[1] in ("train", "evaluate", "compress", "forget", "bench", "dead-letters"):
                assert words[1] in set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
            elif words:
                check_afterclick(words[1:])


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_a_json_block_is_a_list(block: Block) -> None:
    msgspec.json.decode(block.text, type=Recommendations)


def test_the_messages_in_the_readme_are_accepted() -> None:
    examples = re.findall(r"^\| `([\w-]+)` \|[^|]*\| `(\{.*?\})`", text_of("README.md"), re.MULTILINE)
    assert [topic for topic, _ in examples] == ["items", "clicks", "forget"]
    for topic, example in examples:
        key = json.loads(example)["item_id" if topic == "items" else "user_id"].encode()
        receive(Message(topic, 0, 0, key, example.encode()), NOW_MS)


@pytest.mark.parametrize(
    ("name", "topic"),
    [
        ("click", "clicks"),
        ("impression", "impressions"),
        ("item", "items"),
        ("forget", "forget"),
        ("rank request", "rank-requests"),
    ],
)
def test_the_fields_of_a_message_are_the_contracts(name: str, topic: str) -> None:
    (row,) = re.findall(rf"^\| {name} \| (.*?) \| (.*)\|$", text_of("streams/README.md"), re.MULTILINE)
    fields = msgspec.structs.fields(TOPICS[topic])
    without_notes = re.sub(r"\([^)]*\)", "", row[1])
    assert re.findall(r"`(\w+)`", row[0]) == [field.name for field in fields if field.required]
    assert re.findall(r"`(\w+)`", without_notes) == [field.name for field in fields if not field.required]


def test_the_fields_of_a_list_are_the_contracts() -> None:
    text = text_of("streams/README.md").partition("### What you get")[2]
    (table,) = re.findall(r"\| field \| meaning \|\n\|---\|---\|\n(.*?)\n\n", text, re.DOTALL)
    named = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    assert sorted(named) == sorted(field.name for field in msgspec.structs.fields(Recommendations))


@pytest.mark.parametrize("block", of_language("toml"), ids=str)
def test_a_toml_block_is_a_file_of_settings(block: Block, tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(block.text, encoding="utf-8")
    assert load(config) != load()


def python_block(*parts: str) -> Block:
    (block,) = (block for block in of_language("python") if all(part in block.text for part in parts))
    return block


def test_every_python_block_has_its_test() -> None:
    assert len(of_language("python")) == len([python_block(*parts) for parts in (PRODUCER, TOKEN, PSEUDONYM)])


PRODUCER, TOKEN, PSEUDONYM = ("confluent_kafka",), ("MSKAuthTokenProvider",), ("hmac",)


def test_the_producer_writes_a_click() -> None:
    confluent_kafka = pytest.importorskip("confluent_kafka")
    with EmbeddedKafka() as kafka:
        source = python_block(*PRODUCER).text.replace("localhost:9092", kafka.bootstrap_servers)
        done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")
        options = {"bootstrap.servers": kafka.bootstrap_servers, "group.id": "g", "auto.offset.reset": "earliest"}
        consumer = confluent_kafka.Consumer(options)
        consumer.subscribe(["clicks"])
        record = consumer.poll(30)
        consumer.close()
    receive(Message("clicks", 0, 0, record.key(), record.value()), json.loads(record.value())["timestamp"])


def test_the_token_provider_returns_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("aws_msk_iam_sasl_signer")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "an-example")
    names: dict[str, Any] = {}
    exec(python_block(*TOKEN).text, names)
    token, expires_ms = names["token"]()
    assert len(token) > 100
    assert expires_ms > NOW_MS / 2


def test_the_pseudonym_is_the_workers() -> None:
    key, user_id = "a-key-of-some-length", "u1"
    names = {"hmac": hmac, "key": key, "user_id": user_id}
    settings = Settings.model_validate({"pseudonym_key": key})
    assert eval(python_block(*PSEUDONYM).text, names) == pseudonym(user_id, settings.pseudonym_key)


def test_no_block_is_left_untested() -> None:
    assert {block.language for block in BLOCKS} <= {"sh", "python", "json", "toml", ""}, "`` is for pictures"
    assert (ROOT / "tests/integration/test_documents.py").exists()
