"""The README files are true: every block, name, link and generated table in them.

Which test runs a code block:

- `python`, `json` and `toml` blocks run here, except those that need a Kafka.
- The quick start, and `sh` blocks that need a Kafka and a worker (README.md: Produce, Consume), run in
  `tests/integration/test_documents.py`.
- All other `sh` lines are parsed here: `afterclick` by its own parser, with every option and value; `make` by the
  targets and variables of the Makefile; `pip` by the extras; `torchrun` by its parser. What they do has tests of its
  own: `train`, `evaluate` and `compress` take minutes and a log, `bench` and `make faults` minutes.
"""

from __future__ import annotations

import getopt
import hmac
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import typer
from torch.distributed.run import get_args_parser

from ranker.reasons.language import Languages
from ranker.rules.reading import parse
from streams import cli
from streams.contracts import TOPICS, Recommendations
from streams.receive.decode import receive
from streams.receive.keys import key_of
from streams.receive.message import Message
from streams.receive.pseudonym import pseudonym
from streams.settings import PREFIX, Settings, load
from streams.settings.table import rows
from tests import documents
from tests.command_line import check_afterclick
from tests.documents import DOCUMENTS, ROOT, Block, blocks, schema_files, text_of

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


def test_the_schemas_are_up_to_date() -> None:
    """`make docs` renews them."""
    assert {path.name: path.read_text(encoding="utf-8") for path in documents.SCHEMAS.iterdir()} == schema_files()


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
    PROGRAMS[program.removeprefix("/opt/afterclick/bin/")](arguments)


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


def check_kcat(arguments: list[str]) -> None:
    """Parse the line by the options of `kcat -h`."""
    getopt.getopt(arguments, "PCb:t:K:X:l:Zo:e")
    assert arguments[arguments.index("-t") + 1] in TOPICS


def check_curl(arguments: list[str]) -> None:
    """`tests/integration/test_http.py` runs them."""
    assert arguments[-1].startswith("http://127.0.0.1:8080/")


def check_source(arguments: list[str]) -> None:
    """The Makefile makes it."""
    assert arguments == [".venv/bin/activate"]


def check_docker(arguments: list[str]) -> None:
    """The file exists, and what a container runs is a command of ours. The compose file has tests of its own."""
    if "-f" in arguments:
        assert (ROOT / arguments[arguments.index("-f") + 1]).is_file()
    for argument in re.findall(r"--build-arg (\w+)=", " ".join(arguments)):
        assert re.search(rf"^ARG {argument}=", text_of("deploy/Dockerfile"), re.MULTILINE), argument
    if arguments[0] == "run":
        (image,) = [number for number, word in enumerate(arguments) if word.startswith("afterclick:0")]
        check_afterclick(arguments[image + 1 :])


def check_files(arguments: list[str]) -> None:
    """Every path in our folders exists. The chart and the unit have tests of their own."""
    ours = [word for word in arguments if word.startswith("deploy/")]
    assert ours
    assert all((ROOT / word).exists() for word in ours)


def check_kubectl(arguments: list[str]) -> None:
    check_afterclick(arguments[arguments.index("afterclick") + 1 :])


def check_systemctl(arguments: list[str]) -> None:
    for unit in arguments[2:]:
        template, _, role = unit.partition("@")
        assert (ROOT / f"deploy/systemd/{template}@.service").is_file()
        check_afterclick(["worker", "--role", role])


def check_torchrun(arguments: list[str]) -> None:
    """Its own parser takes the line, and what it starts is a command of ours."""
    started = get_args_parser().parse_args(arguments)
    assert (started.module, started.training_script) == (True, "streams.cli")
    check_afterclick(started.training_script_args)


PROGRAMS = {
    "afterclick": check_afterclick,
    "curl": check_curl,
    "docker": check_docker,
    "git": check_git,
    "helm": check_files,
    "install": check_files,
    "kcat": check_kcat,
    "kubectl": check_kubectl,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "source": check_source,
    "systemctl": check_systemctl,
    "torchrun": check_torchrun,
}
"""What checks a line of each program."""


INCOMPLETE = ("embed-images", "train", "evaluate", "compress", "forget", "bench", "plan", "dead-letters")
"""Commands that a text may name without their arguments."""


def test_every_command_in_the_text_can_be_run() -> None:
    """A command in the text is parsed too, if it is whole: `afterclick recommend u1`, `make fuzz`."""
    for document in DOCUMENTS:
        for span in code_spans(document):
            words = shlex.split(span) if span.startswith(("afterclick ", "make ")) and "|" not in span else []
            if "..." in words:
                continue
            if words[:1] == ["make"]:
                check_make(words[1:])
            elif len(words) == 2 and words[1] in INCOMPLETE:
                assert words[1] in set(typer.main.get_command(cli.app).commands)  # type: ignore[attr-defined]
            elif words:
                check_afterclick(words[1:])


@pytest.mark.parametrize("block", of_language("json"), ids=str)
def test_a_json_block_is_a_list(block: Block) -> None:
    msgspec.json.decode(block.text, type=Recommendations)


def keyed(topic: str, value: bytes) -> bytes:
    message: Any = msgspec.json.decode(value, type=TOPICS[topic])
    return key_of(message).encode()


def test_the_messages_in_the_readme_are_accepted() -> None:
    examples = re.findall(r"^\| `([\w-]+)` \|[^|]*\| `(\{.*?\})`", text_of("README.md"), re.MULTILINE)
    assert [topic for topic, _ in examples] == ["items", "clicks", "forget", "merges", "knowledge"]
    for topic, example in examples:
        receive(Message(topic, 0, 0, keyed(topic, example.encode()), example.encode()), NOW_MS)


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
def test_a_toml_block_is_a_file_of_settings_of_rules_or_of_phrases(block: Block, tmp_path: Path) -> None:
    if "[[rule]]" in block.text:
        assert parse(block.text, block.document).rules
        return
    if "[because]" in block.text:
        (tmp_path / "de.toml").write_text(block.text, encoding="utf-8")
        assert Languages("de", tmp_path).default
        return
    config = tmp_path / "shop.toml"
    config.write_text(block.text, encoding="utf-8")
    assert load(config) != load()


def python_block(*parts: str) -> Block:
    (block,) = (block for block in of_language("python") if all(part in block.text for part in parts))
    return block


def test_every_python_block_has_its_test() -> None:
    parts_of_each = (QUICK_START, TOKEN, PSEUDONYM, *IN_FIELD_TESTS)
    assert len(of_language("python")) == len([python_block(*parts) for parts in parts_of_each])


QUICK_START, TOKEN, PSEUDONYM = ("titles = ",), ("MSKAuthTokenProvider",), ("hmac",)
IN_FIELD_TESTS = (("client.recommendations",), ("AsyncClient(",))
"""`tests/field/test_clients.py` runs these, and the blocks in other languages."""


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
    languages = {"sh", "python", "javascript", "java", "json", "toml", ""}
    assert {block.language for block in BLOCKS} <= languages, "`` is for pictures"
    assert (ROOT / "tests/integration/test_documents.py").exists()
