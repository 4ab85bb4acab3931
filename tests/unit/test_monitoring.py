"""The alerts and the dashboard name what exists: metrics, labels, label values, recorded series, runbook paragraphs."""

from __future__ import annotations

import re
from itertools import combinations

import pytest
import yaml

from streams.metric_labels import DEGRADED_REASONS
from tests import documents
from tests.documents import ROOT, text_of
from tests.monitoring import (
    ADDED,
    PROMETHEUS,
    Expression,
    dashboard,
    dashboard_expressions,
    panels,
    rule_expressions,
    rules,
    selectors,
)

RECORDED = {rule["record"] for rule in rules("rules.yml")}
ALERTS = rules("alerts.yml")
ALL = [*rule_expressions(), *dashboard_expressions()]
DECLARED = {metric.name: {*metric.labels, *ADDED} for metric in documents.metrics()}


@pytest.mark.parametrize("expression", ALL, ids=lambda expression: expression.where)
def test_every_metric_and_label_is_declared(expression: Expression) -> None:
    for metric, labels in selectors(expression.text):
        if metric.startswith("process_"):
            continue
        if ":" in metric:
            assert metric in RECORDED
            continue
        name = metric if metric in DECLARED else re.sub(r"_(bucket|sum|count)$", "", metric)
        assert name in DECLARED
        assert labels.keys() <= DECLARED[name], name


def test_a_recorded_series_is_named_by_the_labels_that_it_keeps() -> None:
    for rule in rules("rules.yml"):
        kept = rule["record"].split(":")[0].split("_")
        by = {label.strip() for label in re.findall(r"by \(([^)]*)\)", rule["expr"])[0].split(",")} - {"le"}
        assert set(kept) == by, rule["record"]


def test_reasons_that_the_alert_leaves_out_exist() -> None:
    (excluded,) = {
        labels["reason"]
        for expression in ALL
        for _, labels in selectors(expression.text)
        if "|" in labels.get("reason", "")
    }
    assert set(excluded.split("|")) < set(DEGRADED_REASONS)


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_an_alert_says_what_to_do(alert: dict[str, dict[str, str]]) -> None:
    name, annotations = str(alert["alert"]), alert["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook_url"}
    assert alert["labels"]["severity"] in ("warning", "critical")
    assert annotations["runbook_url"] == f"deploy/README.md#{name.lower()}"
    paragraph = text_of("deploy/README.md").partition(f"#### {name}\n")[2].partition("\n#")[0]
    assert all(word in paragraph for word in ("Users", "Look at", "Do:")), "what users notice, what to look at and do"


def test_every_alert_has_a_test_where_it_fires_and_one_where_it_does_not() -> None:
    tests = yaml.safe_load((PROMETHEUS / "tests/alerts.yml").read_text(encoding="utf-8"))["tests"]
    checked = [(check["alertname"], bool(check["exp_alerts"])) for test in tests for check in test["alert_rule_test"]]
    assert set(checked) == {(alert["alert"], fires) for alert in ALERTS for fires in (True, False)}


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    every = dashboard()["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    places = [(panel["title"], panel["gridPos"]) for panel in every]
    for _, place in places:
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        assert place["h"] >= 1
    for (title, one), (other_title, other) in combinations(places, 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, (title, other_title)


def test_the_panels_fill_the_grid_without_a_hole() -> None:
    every = [panel["gridPos"] for panel in dashboard()["panels"]]
    height = max(place["y"] + place["h"] for place in every)
    assert sum(place["w"] * place["h"] for place in every) == 24 * height


def test_every_panel_has_a_unit_a_description_and_the_chosen_data_source() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert names == {"datasource", "job", "tier", "instance", "model"}
    for panel in panels():
        assert panel["description"].endswith(".")
        assert panel["type"] == "table" or panel["fieldConfig"]["defaults"]["unit"]
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        references = [target["refId"] for target in panel["targets"]]
        assert len(set(references)) == len(references) > 0
        used = {name for target in panel["targets"] for name in re.findall(r"\$(?!__)(\w+)", target["expr"])}
        assert used <= names


def test_the_dashboard_asks_the_four_questions() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    assert rows == ["Is it fresh?", "Is it good?", "Is it keeping up?", "What does it cost?"]


def test_grafana_finds_its_source_and_the_dashboard() -> None:
    folder = ROOT / "deploy/grafana/provisioning"
    (source,) = yaml.safe_load((folder / "datasources/prometheus.yml").read_text(encoding="utf-8"))["datasources"]
    assert (source["type"], source["isDefault"]) == ("prometheus", True)
    (provider,) = yaml.safe_load((folder / "dashboards/afterclick.yml").read_text(encoding="utf-8"))["providers"]
    assert (provider["type"], provider["options"]) == ("file", {"path": "/var/lib/grafana/dashboards"})
