"""The chart, rendered by Helm over its three examples and checked against Kubernetes' own schemas.

Helm is found in the environment variable HELM or on PATH. The kinds of KEDA and of Prometheus' operator have no schema
among Kubernetes' own: what they refer to is checked here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from streams.kafka.topics import group_id
from streams.settings import Settings
from tests.command_line import check_afterclick
from tests.deployment import DEPLOY, TOKEN, check_settings, read_yaml

CHART = DEPLOY / "helm"
KUBERNETES = ("1.27.0", "1.33.0")
EXAMPLES = tuple(sorted(path.stem for path in (CHART / "examples").iterdir()))
FOREIGN = {"ScaledObject", "ServiceMonitor", "PrometheusRule"}
SECRETS = {
    "AFTERCLICK_REDIS__URL": "rediss://redis:6379/0",
    "AFTERCLICK_KAFKA__SECURITY__SASL_PASSWORD": "a-password",
    "AFTERCLICK_METRICS__TOKEN": TOKEN,
    **{f"AFTERCLICK_HTTP__{right}_TOKEN": TOKEN for right in ("READ", "WRITE", "RANK")},
}
Manifest = dict[str, Any]


def helm(*arguments: str | Path, must_work: bool = True) -> str:
    """Run Helm; return what it prints, or where it must fail what it says."""
    program = os.environ.get("HELM") or shutil.which("helm")
    if not program:
        pytest.skip("no helm: needs HELM, its path, or helm on PATH")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode == 0) == must_work, done.stdout + done.stderr
    return done.stdout if must_work else done.stderr


def rendered(*arguments: str | Path, kubernetes: str = KUBERNETES[-1]) -> list[Manifest]:
    text = helm("template", "shop", CHART, "--namespace", "prod", "--kube-version", kubernetes, *arguments)
    return [manifest for manifest in yaml.safe_load_all(text) if manifest]


@pytest.fixture(scope="module")
def manifests() -> dict[str, list[Manifest]]:
    """What each example renders to."""
    return {name: rendered("-f", CHART / f"examples/{name}.yaml") for name in EXAMPLES}


def of_kind(manifests: list[Manifest], *kinds: str) -> dict[str, Manifest]:
    return {manifest["metadata"]["name"]: manifest for manifest in manifests if manifest["kind"] in kinds}


def pods(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Yield the name and the pod's template of every set of pods."""
    for name, manifest in of_kind(manifests, "StatefulSet", "Deployment").items():
        yield name, manifest["spec"]["template"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_helm_lints_the_chart_and_kubernetes_takes_what_it_renders(name: str) -> None:
    values = CHART / f"examples/{name}.yaml"
    helm("lint", CHART, "--strict", "--kube-version", KUBERNETES[-1], "-f", values)
    for kubernetes in KUBERNETES:
        for manifest in rendered("-f", values, kubernetes=kubernetes):
            if manifest["kind"] not in FOREIGN:
                kubernetes_validate.validate(manifest, kubernetes, strict=True)


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_container_can_start_and_has_no_rights(
    name: str, manifests: dict[str, list[Manifest]], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {}
    for pod_name, pod in pods(manifests[name]):
        spec, (container,) = pod["spec"], pod["spec"]["containers"]
        check_afterclick(container["args"])
        literal = {one["name"]: one["value"] for one in container["env"] if "value" in one}
        assert len({one["name"] for one in container["env"]}) == len(container["env"])
        settings = check_settings(literal | SECRETS, monkeypatch)
        settings.http.check_tokens()
        assert spec["securityContext"]["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert (spec["enableServiceLinks"], spec["automountServiceAccountToken"]) == (False, False)
        assert spec["terminationGracePeriodSeconds"] >= settings.grace_s + 10
        volumes = {volume["name"] for volume in spec["volumes"]} | ({"data"} if pod_name.endswith("-state") else set())
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        found[pod_name] = container
    assert {"shop-afterclick-state", "shop-afterclick-rank"} <= set(found)
    for tier in ("state", "rank"):
        container = found[f"shop-afterclick-{tier}"]
        stable = {one["name"]: one for one in container["env"]}["AFTERCLICK_KAFKA__INSTANCE_ID"]
        assert stable["valueFrom"]["fieldRef"]["fieldPath"] == "metadata.name"
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            assert container[probe]["httpGet"]["path"] in ("/livez", "/readyz")


@pytest.mark.parametrize("name", EXAMPLES)
def test_what_selects_pods_selects_those_of_one_part(name: str, manifests: dict[str, list[Manifest]]) -> None:
    labels = {pod_name: pod["metadata"]["labels"] for pod_name, pod in pods(manifests[name])}
    selectors = {
        f"{manifest['kind']} {manifest['metadata']['name']}": (
            manifest["metadata"]["name"],
            manifest["spec"]["selector"].get("matchLabels", manifest["spec"]["selector"]),
        )
        for manifest in manifests[name]
        if manifest["kind"] in ("Service", "StatefulSet", "Deployment", "PodDisruptionBudget")
    }
    assert len(selectors) == 3 * len(labels)
    for what, (part, selector) in selectors.items():
        selected = [pod for pod, own in labels.items() if selector.items() <= own.items()]
        assert selected == [part], what


def test_a_gpu_is_asked_for_by_rank_workers_alone(manifests: dict[str, list[Manifest]]) -> None:
    limits = {name: pod["spec"]["containers"][0]["resources"]["limits"] for name, pod in pods(manifests["gpu"])}
    assert {name for name, limit in limits.items() if "nvidia.com/gpu" in limit} == {"shop-afterclick-rank"}
    rank = dict(pods(manifests["gpu"]))["shop-afterclick-rank"]["spec"]
    assert rank["nodeSelector"]
    assert rank["tolerations"]


def test_keda_scales_the_stateful_sets_by_the_lag_of_their_groups_and_the_queue(
    manifests: dict[str, list[Manifest]],
) -> None:
    sets = of_kind(manifests["gpu"], "StatefulSet")
    scaled = of_kind(manifests["gpu"], "ScaledObject")
    assert set(scaled) == set(sets)
    for name, manifest in scaled.items():
        spec = manifest["spec"]
        assert spec["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name}
        assert "replicas" not in sets[name]["spec"], "Helm would undo what KEDA did"
        assert all(isinstance(value, str) for trigger in spec["triggers"] for value in trigger["metadata"].values())
    state, rank = (scaled[f"shop-afterclick-{tier}"]["spec"]["triggers"] for tier in ("state", "rank"))
    assert [trigger["type"] for trigger in (*state, *rank)] == ["kafka", "kafka", "prometheus"]
    assert state[0]["metadata"]["consumerGroup"] == group_id(Settings(), "state")
    assert rank[0]["metadata"]["consumerGroup"] == group_id(Settings(), "rank")
    assert 'afterclick_queue_seconds_bucket{namespace="prod"}' in rank[1]["metadata"]["query"]


def test_prometheus_finds_every_part_as_one_job_and_gets_the_rules(manifests: dict[str, list[Manifest]]) -> None:
    (monitor,) = of_kind(manifests["cpu"], "ServiceMonitor").values()
    services = of_kind(manifests["cpu"], "Service").values()
    wanted = monitor["spec"]["selector"]["matchLabels"].items()
    selected = [service for service in services if wanted <= service["metadata"]["labels"].items()]
    assert len(selected) == 3
    assert {service["metadata"]["labels"][monitor["spec"]["jobLabel"]] for service in selected} == {"shop-afterclick"}
    ports = {port["name"] for service in selected for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} == ports
    rules = of_kind(manifests["cpu"], "PrometheusRule")
    for name in ("rules", "alerts"):
        assert rules[f"shop-afterclick-{name}"]["spec"] == read_yaml(DEPLOY / f"prometheus/{name}.yml")


def test_a_secret_is_made_only_where_none_is_named(manifests: dict[str, list[Manifest]]) -> None:
    (secret,) = of_kind(manifests["dev"], "Secret").values()
    assert secret["stringData"] == {"AFTERCLICK_REDIS__URL": "redis://redis:6379/0"}
    assert not of_kind(manifests["cpu"], "Secret")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("state.replica=3", "replica"),
        ("kafka.bootstrapServers=kafka", "bootstrapServers"),
        ("rank.gpus=-1", "gpus"),
        ("settings.AFTERCLICK_REDIS__URL=redis://redis", "AFTERCLICK_REDIS__URL"),
        ("settings.AFTERCLICK_HTTP__READ_TOKEN=secret", "AFTERCLICK_HTTP__READ_TOKEN"),
        ("state.replicas=9", "state: got 9 workers, expected at most kafka.partitions (8)"),
        ("http.enabled=true", "http.enabled: got no AFTERCLICK_HTTP__READ_TOKEN"),
        ("http.ingress.enabled=true", "host"),
    ],
)
def test_a_wrong_value_is_refused_by_name(wrong: str, said: str) -> None:
    values = ("-f", CHART / "examples/dev.yaml", "--set", wrong)
    assert said in helm("template", "shop", CHART, "--kube-version", KUBERNETES[-1], *values, must_work=False)


def test_the_schema_knows_every_value_and_no_other() -> None:
    """Helm checks that the defaults pass it. Here: no property lacks a default, but for the one that is required."""
    schema = yaml.safe_load((CHART / "values.schema.json").read_text(encoding="utf-8"))

    def lacking(values: Any, part: Manifest, path: str) -> Iterator[str]:
        for name, inner in part.get("properties", {}).items():
            if not isinstance(values, dict) or name not in values:
                yield f"{path}{name}"
            else:
                yield from lacking(values[name], inner, f"{path}{name}.")

    assert set(lacking(read_yaml(CHART / "values.yaml"), schema, "")) == {"global", "kafka.bootstrapServers"}
