"""`afterclick train` end to end on small made shops: it learns what is there to learn, and refuses what is not."""

from __future__ import annotations

import itertools
import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders.text.encoder import TextEncoder
from ranker.evaluation.measures import ndcg_at
from ranker.evaluation.protocols import Interaction, next_basket, ordered
from ranker.fusion.fused import FusedScorer
from ranker.load import load_scorer
from ranker.train import lists as lists_module
from ranker.train import model_fit
from ranker.train.fit import CURVE, ModelRefused, fit
from ranker.train.lists import Lists, cases
from streams.commands.train import Options, run
from streams.contracts import Item
from streams.datasets.messages import InputError
from streams.datasets.recorded import Recorded, generated
from streams.offline import training_material as material
from streams.offline import walk
from streams.offline.production import Production
from streams.settings import Candidates, Encoder, Ranker, Settings
from tests import models

DAY_MS = 86_400_000
GROUPS = ("Wool hat", "Trail jacket", "Coffee maker", "Camping stove", "Blue shoes", "Red tent")
EACH = 60
"""Items of a kind: so many that few were ever visited together."""
USERS, VISITS = 60, 7
CHEAP, DEAR = 10.0, 80.0


def shop(seed: int = 1) -> Recorded:
    """Users stay with one kind of thing and one price: category and price tell what the thin counts do not."""
    rng = random.Random(seed)
    items = [
        Item(
            item_id=f"{group}-{number}",
            title=f"{GROUPS[group]} number {number}",
            categories=[GROUPS[group]],
            price=CHEAP if number % 2 else DEAR,
            currency="EUR",
        )
        for group in range(len(GROUPS))
        for number in range(EACH)
    ]
    events = []
    for user in range(USERS):
        group, odd = rng.randrange(len(GROUPS)), rng.randrange(2)
        left = [number for number in range(EACH) if number % 2 == odd]
        rng.shuffle(left)
        start_ms = rng.randrange(30 * DAY_MS)
        for visit in range(VISITS):
            item = f"{group}-{left.pop()}"
            events.append(Interaction(f"u{user}", item, start_ms + visit * DAY_MS, "click", f"u{user}-{visit}"))
    return Recorded(items, events, [], {})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(models.encoder(tmp_path_factory.mktemp("encoder")))


def settings_of(folder: Path) -> Settings:
    return Settings(
        encoder=Encoder(model=str(folder), device="cpu", dtype="float32"),
        ranker=Ranker(device="cpu", dtype="float32", max_candidates=90, max_per_category=20),
        candidates=Candidates(limit=90),
    )


def trained(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "afterclick.json").read_text(encoding="utf-8"))["trained"]
    return found


def options(out: Path, **changes: Any) -> Options:
    return replace(Options("none", out, max_minutes=5), **changes)


def test_it_learns_what_counters_cannot_see(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shop(), settings, options(tmp_path / "out"), to_json=True)
    told = json.loads(capsys.readouterr().out)
    figures = told["validation_ndcg_at_10"]
    best = max(value for name, value in figures.items() if name.startswith(("counter", "candidates")))
    assert figures["fused"] > 1.2 * best
    assert figures == trained(tmp_path / "out")["validation_ndcg_at_10"]
    assert "NDCG" in (tmp_path / "out" / CURVE).read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "checkpoint").exists()
    assert load_scorer(str(tmp_path / "out")).needs_features


def test_what_it_learnt_holds_for_what_was_held_out(settings: Settings, tmp_path: Path) -> None:
    recorded = shop()
    run(recorded, settings, options(tmp_path / "out", hold_out="next-basket"), to_json=True)
    split = next_basket(ordered(recorded.events, material.ORDER_SEED))
    assert trained(tmp_path / "out")["events"] == len(split.training) < len(recorded.events)
    production = Production(settings, TextEncoder(settings.encoder.model, "cpu", "float32"), recorded.items, split)
    requests = production.ask(peek=False, progress=lambda *_: None)
    places = {item.item_id: place for place, item in enumerate(recorded.items)}
    found = {}
    for name, scorer in (("given", None), ("fused", load_scorer(str(tmp_path / "out")))):
        answers = production.rank(requests, scorer, lambda *_: None)
        assert answers.degraded == (0 if scorer else len(requests))
        found[name] = np.mean(
            [
                ndcg_at(answer.ranked, {places[item] for item in case.targets}, 10)
                for case, answer in zip(split.cases, answers.answers, strict=True)
            ]
        )
    assert found["fused"] > 1.15 * found["given"]


def test_a_seed_reproduces_the_metrics(settings: Settings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(shop(), settings, options(tmp_path / name), to_json=True)
    for key in ("validation_ndcg_at_10", "fusion_curve", "data_sha256"):
        assert trained(tmp_path / "one")[key] == trained(tmp_path / "two")[key]
    assert (tmp_path / "one" / "fusion.safetensors").read_bytes() == (
        tmp_path / "two" / "fusion.safetensors"
    ).read_bytes()


def test_when_time_is_up_the_lists_are_those_of_what_was_read(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock goes on by one with each list; and asked again, the same lists come from the checkpoint."""
    asked = material.gather(shop(), settings, None, 300, 1)

    def lists(name: str, deadline: float) -> Lists:
        monkeypatch.setattr(walk, "time", SimpleNamespace(monotonic=itertools.count(1).__next__))
        return asked.lists(settings, asked.checkpoint(tmp_path / name, settings, None), deadline, lambda *_: None)

    whole = lists("whole", float("inf"))
    assert capsys.readouterr().err == ""
    for _ in range(2):
        cut = lists("cut", 119)
        assert cut.digest() == whole[np.arange(120)].digest()
        assert "got from the log 120 of 300 lists" in capsys.readouterr().err
    with pytest.raises(ModelRefused, match=r"got from the log 6 of 300 lists .*, expected at least 50"):
        lists("few", 5)


def test_a_head_is_fitted_for_one_epoch_when_time_is_up(settings: Settings, tmp_path: Path) -> None:
    asked = material.gather(shop(), settings, None, 100, 1)
    lists = asked.lists(settings, asked.checkpoint(tmp_path, settings, None), float("inf"), lambda *_: None)
    scores = np.random.default_rng(1).standard_normal(lists.candidates.shape, np.float32)
    epochs: list[int] = []
    trained = fit(scores, lists, "softmax", 1, lambda done, _: epochs.append(done), deadline=time.monotonic())
    assert epochs == [1, 1, 1]
    assert len(trained.curve) == 1


def test_what_was_learnt_from_wrong_answers_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the older lists what was chosen was not and the rest was; in the newer ones it is as it was."""
    whole = walk.build

    def turned(*arguments: Any) -> Lists:
        lists = whole(*arguments)
        older = round(len(lists) * 0.85)
        chosen = lists.chosen.copy()
        chosen[:older] = (chosen[:older] == 0) & (lists.candidates[:older] != lists_module.NOBODY)
        return replace(lists, chosen=chosen)

    monkeypatch.setattr("streams.offline.training_material.build", turned)
    with pytest.raises(SystemExit) as ended:
        run(shop(), settings, options(tmp_path / "out"), to_json=True)
    assert ended.value.code == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert "got NDCG@10" in told.err
    assert "counter co_visited" in told.err
    assert not (tmp_path / "out" / "afterclick.json").exists()


def test_a_folder_that_holds_a_model_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "afterclick.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="which holds a model"):
        run(shop(), settings, options(tmp_path), to_json=True)


def test_questions_know_only_what_was_before_them() -> None:
    log = ordered(generated(3, 2_000).events, 1)
    for case in cases(log, repeat_purchases=False, seed=1):
        before = {event.item for event in log[: case.place] if event.user == case.user}
        assert before
        rest = {event.item for event in log[case.place :] if event.user == case.user}
        assert case.targets <= rest
        assert not case.targets & {e.item for e in log[: case.place] if e.user == case.user and e.kind == "purchase"}


def test_what_was_only_looked_at_is_asked_for_again_and_what_was_bought_if_it_may_be() -> None:
    log = [
        Interaction("ann", "mug", 0, "purchase", "monday"),
        Interaction("ann", "cup", 1, "click", "monday"),
        Interaction("ann", "mug", 2, "click", "tuesday"),
        Interaction("ann", "cup", 3, "purchase", "tuesday"),
    ]
    asked = {repeats: [case.targets for case in cases(log, repeats, 1)] for repeats in (False, True)}
    assert asked == {False: [{"cup"}] * 3, True: [{"cup"}, {"mug", "cup"}, {"cup"}]}


def test_lines_of_one_time_are_asked_for_before_the_first_and_from_one_of_the_later_ones_on() -> None:
    monday = [Interaction("ann", item, 0, "purchase", "monday") for item in ("mug", "cup", "tea")]
    tuesday = [Interaction("ann", item, 9, "purchase", "tuesday") for item in ("pot", "jug", "bun", "hat")]
    later = set()
    for seed in range(40):
        within, before, again = cases(monday + tuesday, repeat_purchases=False, seed=seed)
        assert within.place in {1, 2}
        assert before.place == 3
        assert before.targets == {"pot", "jug", "bun", "hat"}
        assert again.targets == {event.item for event in tuesday[again.place - 3 :]}
        later.add(again.place)
    assert later == {4, 5, 6}


BASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "packed": (models.packed, {}),
    "cross": (models.classifier, {}),
    "decoder": (models.decoder, {}),
    "packed from an embedding model": (models.encoder, {"form": "packed"}),
    "lora": (models.packed, {"lora": True}),
    "decoder, lora": (models.decoder, {"lora": True}),
}


SERVED = {
    "packed": "PackedEncoder",
    "cross": "CrossEncoder",
    "decoder": "PackedDecoder",
    "packed from an embedding model": "PackedEncoder",
    "lora": "PackedEncoder",
}


@pytest.mark.parametrize("kind", BASES)
def test_every_kind_of_model_is_tuned_and_served(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    if "lora" in kind:
        pytest.importorskip("peft")
    make, changes = BASES[kind]
    base = make(tmp_path / "base")
    for name in ("full", "lora"):
        monkeypatch.setitem(model_fit.LEARNING_RATE, name, 2e-3)  # a tiny model's
    run(shop(), settings, options(tmp_path / "out", base=str(base), lists=120, epochs=2, **changes), to_json=True)
    before = {} if "form" in changes else _weights(base)
    after = _weights(tmp_path / "out")
    assert set(before) <= set(after)
    fused = load_scorer(str(tmp_path / "out"), "cpu", "float32")
    assert fused.needs_features
    assert isinstance(fused, FusedScorer)
    assert type(fused.base).__name__ == SERVED[kind.split(",")[0]]


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))


SCRIPT = """
import sys
from pathlib import Path
from dataclasses import replace
from tests.unit.test_train import options, shop
from streams.settings import Candidates, Encoder, Ranker, Settings
from streams.commands.train import run
encoder, base, out = sys.argv[1:]
settings = Settings(
    encoder=Encoder(model=encoder, device="cpu", dtype="float32"),
    ranker=Ranker(device="cpu", dtype="float32", max_candidates=90, max_per_category=20),
    candidates=Candidates(limit=90),
)
run(shop(), settings, options(Path(out), base=base, lists=200, epochs=2), to_json=True)
"""


def test_a_run_that_was_killed_goes_on_to_the_same_end(settings: Settings, tmp_path: Path) -> None:
    base = models.packed(tmp_path / "base")
    command_line = [sys.executable, "-c", SCRIPT, settings.encoder.model, str(base)]
    subprocess.run([*command_line, str(tmp_path / "whole")], check=True, capture_output=True)
    stopped = subprocess.Popen([*command_line, str(tmp_path / "stopped")], stdout=subprocess.DEVNULL)
    saved = tmp_path / "stopped" / "checkpoint" / "tuning" / "run.pt"
    ends = time.monotonic() + 120
    while not saved.exists() and stopped.poll() is None and time.monotonic() < ends:
        time.sleep(0.01)
    stopped.send_signal(signal.SIGKILL)
    assert stopped.wait() == -signal.SIGKILL, "it ended before it could be killed"
    subprocess.run([*command_line, str(tmp_path / "stopped")], check=True, capture_output=True)
    whole, resumed = trained(tmp_path / "whole"), trained(tmp_path / "stopped")
    assert resumed["model_curve"] == whole["model_curve"]
    assert resumed["validation_ndcg_at_10"] == whole["validation_ndcg_at_10"]
