"""Lists judged by groups: each measure by its definition; a biased log shows the bias, its correction and the cost."""

from __future__ import annotations

import json
from dataclasses import replace
from math import isnan, log2
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from encoders.errors import AfterclickError
from ranker.evaluation.groups import MAX_GROUPS, NO_VALUE, item_groups, judge_groups, user_groups
from ranker.evaluation.judge import Estimate
from streams import cli
from streams.commands.group_report import verdict
from streams.datasets import seller_shop
from streams.datasets.shop import SyntheticShop
from tests.unit.test_judge import ITEMS, ground_truth, ranked_lists
from tests.unit.test_measures import plain_ndcg

BEGIN_MS = 1_700_000_000_000
RULE = '[[rule]]\nname = "small"\nexposure = { min = 0.45 }\nitems = { provider = "small" }\n'


def share(top: list[int], members: set[int]) -> float:
    weights = [1 / log2(rank + 1) for rank in range(1, len(top) + 1)]
    return sum(weight for item, weight in zip(top, weights, strict=True) if item in members) / sum(weights)


def test_every_measure_of_a_group_of_items_equals_its_definition() -> None:
    groups = item_groups([("ab"[item % 2], "c")[: 1 + item % 3 // 2] if item else () for item in range(ITEMS)])
    assert sorted(groups.names) == [NO_VALUE, "a", "b", "c"]
    truth, given = replace(ground_truth(40, 15, 1), groups=groups), ranked_lists(40, 2)
    found = judge_groups(truth, given, 3)
    tops = [list_.ranked[:10] for list_ in given]
    for name, row in zip(groups.names, groups.members, strict=True):
        members = set(np.flatnonzero(row).tolist())
        exposure = np.mean([share(top, members) for top in tops])
        chosen = np.mean([len(targets & members) / len(targets) for targets in truth.targets])
        of_group = [(top, targets & members) for top, targets in zip(tops, truth.targets, strict=True)]
        ndcg = [plain_ndcg(top, targets, 10) for top, targets in of_group if targets]
        got = {measure: estimate.value for measure, estimate in found[name].items()}
        assert got["exposure"] == pytest.approx(exposure)
        assert got["chosen"] == pytest.approx(chosen)
        assert got["calibration"] == pytest.approx(exposure / chosen) or not chosen
        assert got["ndcg_at_10"] == pytest.approx(np.mean(ndcg)) or not ndcg
        assert got["coverage"] == pytest.approx(len({item for top in tops for item in top} & members) / len(members))
        for estimate in found[name].values():
            assert isnan(estimate.value) or estimate.low <= estimate.value <= estimate.high


def test_every_measure_of_a_group_of_users_equals_its_definition() -> None:
    truth, given = ground_truth(60, 25, 4), ranked_lists(60, 5)
    groups = user_groups(truth.history_lengths)
    found = judge_groups(replace(truth, groups=groups), given, 3)
    popular = set(np.argsort(truth.information_bits)[: ITEMS // 5].tolist())
    for name, row in zip(groups.names, groups.members, strict=True):
        cases = np.flatnonzero(row).tolist()
        tops = [given[case].ranked[:10] for case in cases]
        targets = [truth.targets[case] for case in cases]
        got = {measure: estimate.value for measure, estimate in found[name].items()}
        assert got["exposure"] == pytest.approx(np.mean([share(top, popular) for top in tops]))
        assert got["chosen"] == pytest.approx(np.mean([len(one & popular) / len(one) for one in targets]))
        ndcg = [plain_ndcg(top, one, 10) for top, one in zip(tops, targets, strict=True)]
        assert got["ndcg_at_10"] == pytest.approx(np.mean(ndcg))
        assert got["coverage"] == pytest.approx(len({item for top in tops for item in top}) / ITEMS)


def test_the_interval_of_an_exposure_is_as_wide_as_theory_says() -> None:
    groups = item_groups([("ab"[item % 2],) for item in range(ITEMS)])
    truth, given = replace(ground_truth(400, 10**9, 1), groups=groups), ranked_lists(400, 2)
    got = judge_groups(truth, given, 3)["a"]["exposure"]
    deviation = np.std([share(list_.ranked[:10], set(range(0, ITEMS, 2))) for list_ in given])
    assert got.high - got.low == pytest.approx(2 * 1.96 * deviation / 20, rel=0.1)


def test_the_smallest_groups_are_joined() -> None:
    groups = item_groups([(f"p{number}",) for number in range(30) for _ in range(number + 1)])
    assert len(groups.names) == MAX_GROUPS
    assert groups.names[0] == "p29"
    assert groups.names[-1] == "19 others"
    assert (groups.members.sum(0) == 1).all()


def test_a_verdict_needs_the_whole_interval() -> None:
    fine = dict.fromkeys(("exposure", "chosen", "coverage"), Estimate(0.5, 0.4, 0.6)) | {
        "calibration": Estimate(0.7, 0.5, 0.9),
        "ndcg_at_10": Estimate(0.1, 0.05, 0.15),
    }
    overall = Estimate(0.12, 0.11, 0.13)
    assert verdict({"a": fine}, overall).startswith("no exposure is shown to be under 0.8 or over 1.25 times")
    little = fine | {"calibration": Estimate(0.5, 0.4, 0.7)}
    much = fine | {"calibration": Estimate(2.0, 1.5, 2.5), "ndcg_at_10": Estimate(0.01, 0.0, 0.02)}
    said = verdict({"a": little, "b": much}, overall)
    assert "too little exposure: a, 0.50 times its choices (0.40 to 0.70)" in said
    assert "too much exposure: b" in said
    assert "served worse: b, NDCG@10 0.010, of all lists 0.120" in said


def biased_log(folder: Path) -> list[str]:
    """Users who like one kind, of two sellers; until the last visit they saw hardly anything of the small one."""
    random = np.random.default_rng(3)
    kinds = ("walking boots", "reading lamp", "coffee grinder", "rain jacket")
    items = [
        {"item_id": f"i{n}", "title": f"{kinds[n % 4]} number {n}", "provider": ("large", "small")[n // 4 % 2]}
        for n in range(160)
    ]
    clicks = []
    for user in range(60):
        shelf = [n for n in range(160) if n % 4 == user % 4]
        large = [n for n in shelf if items[n]["provider"] == "large"]
        for visit in range(4):
            among = shelf if visit == 3 or random.random() < 0.1 else large
            for step, number in enumerate(random.choice(among, 3, replace=False)):
                at_ms = BEGIN_MS + visit * 86_400_000 + user * 60_000 + step
                ids = {"event_id": f"{user}-{visit}-{step}", "user_id": f"u{user}", "session_id": f"{user}-{visit}"}
                clicks.append({**ids, "item_id": f"i{number}", "timestamp": at_ms})
    for topic, messages in (("items", items), ("clicks", clicks)):
        (folder / f"{topic}.jsonl").write_text("\n".join(map(json.dumps, messages)), encoding="utf-8")
    return ["--items", str(folder / "items.jsonl"), "--clicks", str(folder / "clicks.jsonl")]


def test_a_biased_log_shows_the_bias_the_correction_and_its_cost(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text(RULE, encoding="utf-8")
    options = ["--by", "provider", "--rules", str(tmp_path / "rules.toml"), "--plot", str(tmp_path / "by.png")]
    args = [*biased_log(tmp_path), "--protocol", "next-basket", "--systems", "afterclick-no-model", *options, "--json"]
    result = CliRunner().invoke(cli.app, ["evaluate", *args], catch_exceptions=False)
    report: dict[str, Any] = json.loads(result.stdout)
    biased, corrected = (report["by"]["systems"][name]["small"] for name in report["systems"])
    assert biased["chosen"] == corrected["chosen"] > 0.4
    assert biased["exposure"] < 0.3
    assert corrected["exposure"] >= 0.45
    assert corrected["ndcg_at_10"] > biased["ndcg_at_10"]
    verdicts = report["by"]["verdicts"]
    assert "too little exposure: small" in verdicts["afterclick-no-model"]
    assert "small" not in verdicts["afterclick-no-model with rules"]
    costs = [report["systems"][name]["ndcg_at_10"] for name in report["systems"]]
    assert abs(costs[1] - costs[0]) < 0.03
    assert (tmp_path / "by.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (["--by", "colour"], "--by: got 'colour', expected events, category, brand"),
        (["--plot", "x.png"], "--plot: got it without --by"),
        (["--rules", "/none.toml"], "/none.toml: got a file that cannot be read"),
    ],
)
def test_wrong_options_are_refused(options: list[str], text: str) -> None:
    missing = ["--items", "/none/items", "--clicks", "/none/clicks"]
    result = CliRunner().invoke(cli.app, ["evaluate", "--protocol", "next-basket", *missing, *options])
    assert isinstance(result.exception, AfterclickError)
    assert str(result.exception).startswith(text)


def test_a_seller_says_nothing_but_what_was_shown() -> None:
    """In the last visits, which tell what users choose, small sellers have their share; before them they have not."""
    shop = SyntheticShop(7, 600, 300)
    items = seller_shop.sold(shop.items, 7)
    events = list(seller_shop.seen(items, shop.events(5_000), 7))
    is_small = {item.item_id: item.provider != "large" for item in items}
    last = {event.user_id: event.session_id for event in events}
    of_visit: dict[bool, list[bool]] = {True: [], False: []}
    for event in events:
        of_visit[event.session_id == last[event.user_id]].append(is_small[event.item_id])
    assert np.mean([*is_small.values()]) == pytest.approx(0.4, abs=0.03)
    assert np.mean(of_visit[True]) == pytest.approx(0.4, abs=0.05)
    assert np.mean(of_visit[False]) == pytest.approx(0.14, abs=0.04)
