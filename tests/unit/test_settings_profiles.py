"""The profiles of settings: bundles of what a user could set, which whatever a user does set wins over."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ranker.rules.reading import read
from streams.cli import app
from streams.settings import Settings, SettingsError, load
from streams.settings.bundle import SHOP, bundle
from streams.settings.table import differing

KINDS = ("news", "video", "music", "ads")


@pytest.fixture(autouse=True)
def _no_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AFTERCLICK_PROFILE", raising=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_profile_is_a_bundle_of_settings_each_of_which_counts(kind: str) -> None:
    def paths(tree: dict[str, object], path: str = "") -> set[str]:
        leaves = {path + name for name, value in tree.items() if not isinstance(value, dict) or name == "weights"}
        return leaves.union(
            *(paths(value, f"{path}{n}.") for n, value in tree.items() if isinstance(value, dict) and n != "weights")
        )

    settings = Settings(profile=kind)
    assert differing(settings).keys() == {"profile", *paths(dict(bundle(kind)))}
    assert settings.rules
    assert read(settings.rules).rules


def test_shop_is_the_defaults() -> None:
    assert Settings(profile=SHOP) == Settings()
    assert bundle(SHOP) == bundle("../profiles/ga4") == {}


def test_what_is_set_wins_over_the_profile(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    config = tmp_path / "shop.toml"
    config.write_text(
        'profile = "video"\nrules = "mine.toml"\n[interest]\nfull_dwell_s = 30\n[interest.weights]\nclick = 1\n'
    )
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__REPEATS", "unbought")
    monkeypatch.setenv("AFTERCLICK_INTEREST__WEIGHTS", "skip=-0.5, wish=2")
    settings = load(config)
    assert (settings.candidates.repeats, settings.interest.full_dwell_s, settings.rules) == (
        "unbought",
        30,
        Path("mine.toml"),
    )
    weights = settings.interest.weights
    assert [weights[name] for name in ("click", "skip", "wish", "complete", "cart")] == [1, -0.5, 2, 3, 2]
    assert settings.interest.skip_dwell_s == 60, "of the profile"
    monkeypatch.setenv("AFTERCLICK_PROFILE", "music")
    assert load(config).candidates.freshness_half_life_hours == 0
    assert load(config).interest.skip_dwell_s == 30, "of the profile of the environment"


def test_a_profile_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_PROFILE", " News ")
    assert load().profile == "news"
    monkeypatch.setenv("AFTERCLICK_PROFILE", "books")
    with pytest.raises(SettingsError, match=r"AFTERCLICK_PROFILE: got 'books', expected 'shop', 'news'"):
        load()
    monkeypatch.setenv("AFTERCLICK_PROFILE", "news")
    monkeypatch.setenv("AFTERCLICK_INTEREST__WEIGHTS", "click=much")
    with pytest.raises(SettingsError, match=r"AFTERCLICK_INTEREST__WEIGHTS: got 'click=much'"):
        load()


def test_the_command_prints_what_a_profile_sets_and_who_set_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERCLICK_CANDIDATES__REPEATS", "always")
    printed = json.loads(CliRunner().invoke(app, ["settings", "--profile", "news", "--set", "--json"]).stdout)
    origins = {one["variable"]: (one["value"], one["origin"]) for one in printed}
    assert origins["AFTERCLICK_PROFILE"] == ("news", "--profile")
    assert origins["AFTERCLICK_CANDIDATES__FRESHNESS_HALF_LIFE_HOURS"] == ("4", "profile news")
    assert origins["AFTERCLICK_CANDIDATES__REPEATS"] == ("always", "environment")
    text = CliRunner().invoke(app, ["settings", "--profile", "news"]).stdout
    assert "AFTERCLICK_INTEREST__LONG_HALF_LIFE_DAYS = 7\n    profile news; default 30; days" in text
