"""The image, the compose file and the unit, as far as they can be checked where none of them can run."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.command_line import check_afterclick
from tests.deployment import DEPLOY, check_settings, read_yaml

ROOT = DEPLOY.parent
COMPOSE: dict[str, Any] = read_yaml(DEPLOY / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {name: service for name, service in SERVICES.items() if "build" in service}
UNIT = DEPLOY / "systemd/afterclick@.service"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
PINNED = re.compile(r"[\w./-]+:v?\d+\.\d+\.\d+[\w.-]*")


def program(name: str, *arguments: str | Path) -> None:
    """Run a program that is installed beside Python; it must find nothing wrong."""
    command = [str(Path(sys.executable).parent / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def interpolated(value: object) -> str:
    """A value of the compose file as a container gets it where the shell sets nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    program("hadolint", DEPLOY / "Dockerfile")


def test_the_image_has_the_version_of_the_package() -> None:
    version = re.findall(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    chart = read_yaml(DEPLOY / "helm/Chart.yaml")
    assert re.findall(r'image\.version="(.*?)"', DOCKERFILE) == version
    assert {service["image"] for service in OURS.values()} == {f"afterclick:{version[0]}"}
    assert [chart["appVersion"]] == version


def test_the_build_context_has_what_the_dockerfile_copies_and_no_more() -> None:
    allowed = set(re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(encoding="utf-8"), re.MULTILINE))
    copied = {
        source
        for line in re.findall(r"^COPY (?!--from)(.*)$", DOCKERFILE, re.MULTILINE)
        for source in line.split()[:-1]
    }
    assert allowed == copied
    assert all((ROOT / source).exists() for source in copied)


def test_the_image_runs_as_a_number_that_is_not_root_and_its_settings_are_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    last = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", last, re.MULTILINE)
    assert '\nENTRYPOINT ["afterclick"]' in last
    check_afterclick(json.loads(re.findall(r"^CMD (.*)$", last, re.MULTILINE)[0]))
    check_settings(dict(re.findall(r"(AFTERCLICK_\w+)=(\S+)", last)), monkeypatch)


def test_the_compose_file_follows_the_specification() -> None:
    program("check-jsonschema", "--builtin-schema", "vendor.compose-spec", DEPLOY / "compose.yaml")


def test_the_compose_file_has_every_part() -> None:
    assert set(SERVICES) == {"kafka", "redis", "state", "rank", "http", "shop", "prometheus", "grafana"}
    assert set(OURS) == {"state", "rank", "http", "shop"}


@pytest.mark.parametrize("name", OURS)
def test_a_service_of_ours_can_start(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    service = OURS[name]
    check_afterclick(service["command"])
    environment = {variable: interpolated(value) for variable, value in service["environment"].items()}
    settings = check_settings(environment, monkeypatch)
    (address,) = settings.kafka.servers
    assert f"PLAINTEXT://{address[0]}:{address[1]}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.redis.url.get_secret_value() == "redis://redis:6379/0"
    if name == "http":
        settings.http.check_tokens()


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_mounts_what_exists_and_is_reached_from_this_machine_only(name: str) -> None:
    service = SERVICES[name]
    assert PINNED.fullmatch(service["image"])
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for volume in service.get("volumes", []):
        source = volume.split(":")[0]
        assert (DEPLOY / source).exists() if source.startswith(".") else source in COMPOSE["volumes"], volume
    for needed, condition in service.get("depends_on", {}).items():
        assert condition == {"condition": "service_healthy"}
        assert "healthcheck" in SERVICES[needed]


def test_prometheus_scrapes_the_ports_that_the_services_have() -> None:
    (job,) = read_yaml(DEPLOY / "prometheus/prometheus.yml")["scrape_configs"]
    targets = {(name, found["port"]) for found in job["dns_sd_configs"] for name in found["names"]}
    assert targets == {("state", 9464), ("rank", 9464), ("http", 8080)}


def test_a_worker_can_start_as_a_unit_of_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    example = (DEPLOY / "systemd/afterclick.env.example").read_text(encoding="utf-8")
    variables = re.findall(r"^Environment=(AFTERCLICK_\w+)=(.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    variables += re.findall(r"^#?(AFTERCLICK_\w+)=(.*)$", example, re.MULTILINE)
    check_settings(
        {name: value.replace("%i", "rank").replace("%H", "host-1") for name, value in variables}, monkeypatch
    )
    (command,) = re.findall(r"^ExecStart=\S+/afterclick (.*)$", UNIT.read_text(encoding="utf-8"), re.MULTILINE)
    check_afterclick(command.replace("%i", "rank").split())


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze on PATH")
def test_the_unit_has_few_rights(tmp_path: Path) -> None:
    """`systemd-analyze` scores its exposure from 0 to 100, where 96 is a unit that is not hardened."""
    unit = tmp_path / "afterclick@state.service"
    shutil.copy(UNIT, unit)
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Unknown" not in done.stderr
