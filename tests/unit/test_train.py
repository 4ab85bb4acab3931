"""`afterclick train` end to end on small synthetic shops: it learns tastes, and refuses a model without skill."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from encoders.text.encoder import TextEncoder
from ranker import processes
from ranker.evaluation.ids import index_by_id
from ranker.evaluation.interactions import Interaction
from ranker.evaluation.log_order import ordered
from ranker.evaluation.measures import COLD_EVENTS, ndcg_at
from ranker.evaluation.protocols import Case, next_basket
from ranker.features import NAMES
from ranker.fusion.fused import FusedScorer
from ranker.load import cascade_depth, load_recall, load_scorer
from ranker.recall.priorities import Repeats
from ranker.train import model_fit, scoring
from ranker.train.checkpoint import Checkpoint
from ranker.train.curve import Epoch
from ranker.train.first_stage import DECODER_DEPTH
from ranker.train.fit import CURVE, ModelRefused, fit
from ranker.train.head_fit import HeadSettings
from ranker.train.losses import softmax
from ranker.train.query_groups import QueryGroups, ScoredGroups
from ranker.train.recalled import RecalledGroups
from ranker.train.training_cases import training_cases
from streams.commands.train import Training, run
from streams.commands.training_end import KNOWN_LISTS
from streams.contracts import Item
from streams.datasets.event_log import EventLog, synthetic
from streams.datasets.messages import InputError
from streams.models.remote.servers import RerankServers
from streams.offline import query_group_builder
from streams.offline.case_pace import CasePace
from streams.offline.query_group_builder import QueryGroupBuilder
from streams.offline.split_pipeline import SplitPipeline
from streams.offline.training_data import ORDER_SEED, gather
from streams.offline.training_run import TrainingRun
from streams.settings import CandidatesSettings, EncoderSettings, RankerSettings, RerankSettings, Settings
from tests import models
from tests.reranker import RerankServer

DAY_MS = 86_400_000
GROUPS = ("Wool hat", "Trail jacket", "Coffee maker", "Camping stove", "Blue shoes", "Red tent")
EACH = 60
"""Items of a kind: so many that few pairs were ever visited together."""
USERS, VISITS = 60, 7
CHEAP, DEAR = 10.0, 80.0


def shop(seed: int = 1) -> EventLog:
    """Users stay with one kind of item and one price: category and price tell what the few counts do not."""
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
    return EventLog(items, events, [], {})


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return settings_of(models.encoder(tmp_path_factory.mktemp("encoder")))


def settings_of(folder: Path) -> Settings:
    return Settings(
        encoder=EncoderSettings(model=str(folder), device="cpu", dtype="float32"),
        ranker=RankerSettings(device="cpu", dtype="float32", max_candidates=90, max_per_category=20),
        candidates=CandidatesSettings(limit=90),
    )


def trained(out: Path) -> dict[str, Any]:
    facts: dict[str, Any] = json.loads((out / "afterclick.json").read_text(encoding="utf-8"))["trained"]
    return facts


def training(out: Path, **changes: Any) -> Training:
    return replace(Training(base="none", out=out, max_minutes=60), **changes)


def no_stage(_: str) -> Callable[[int, int], None]:
    return lambda *_: None


def test_it_learns_what_counters_cannot_see(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(shop(), settings, training(tmp_path / "out"), to_json=True)
    report = json.loads(capsys.readouterr().out)
    figures = report["validation_ndcg_at_10"]
    best = max(value for name, value in figures.items() if name.startswith(("counter", "candidates")))
    assert figures["fused"] > 1.2 * best
    assert figures == trained(tmp_path / "out")["validation_ndcg_at_10"]
    assert report["cold_items"] == trained(tmp_path / "out")["cold_items"]
    assert report["cold_items"]["cold"]["query_groups"] > 0
    assert "NDCG" in (tmp_path / "out" / CURVE).read_text(encoding="utf-8")
    assert not (tmp_path / "out" / "checkpoint").exists()
    assert load_scorer(str(tmp_path / "out")).feature_set


def test_a_head_over_the_reranker_of_a_server(settings: Settings, tmp_path: Path) -> None:
    out = tmp_path / "out"
    with RerankServer() as server:
        run(shop(), settings, training(out, base=server.url), to_json=True)
        asked = len(server.bodies)
        named = RankerSettings(model=str(out), rerank=RerankSettings(hosts=(server.host,)))
        with closing(RerankServers(named)) as servers:
            assert load_scorer(str(out), connect=servers).feature_set
        assert len(server.bodies) > asked + KNOWN_LISTS, "the known answers are asked for"
    description = json.loads((out / "afterclick.json").read_text(encoding="utf-8"))
    assert description["base"] == server.url
    figures = description["trained"]["validation_ndcg_at_10"]
    assert figures["fused"] > figures["language model alone"] > 0.05


def test_what_it_learnt_holds_for_the_held_out_part(settings: Settings, tmp_path: Path) -> None:
    event_log = shop()
    run(event_log, settings, training(tmp_path / "out", hold_out="next-basket"), to_json=True)
    split = next_basket(ordered(event_log.events, ORDER_SEED))
    assert trained(tmp_path / "out")["events"] == len(split.training) < len(event_log.events)
    encoder, recall = TextEncoder(settings.encoder.model, "cpu", "float32"), load_recall(str(tmp_path / "out"))
    pipeline = SplitPipeline(settings, encoder, event_log.items, split, recall)
    requests = pipeline.all_requests(leaky=False, progress=lambda *_: None)
    index = index_by_id(item.item_id for item in event_log.items)
    ndcg = {}
    for name, scorer in (("given", None), ("fused", load_scorer(str(tmp_path / "out")))):
        result = pipeline.rank(requests, scorer, lambda *_: None)
        assert result.degraded == (0 if scorer else len(requests))
        ndcg[name] = np.mean(
            [
                ndcg_at(list_.ranked, {index[item] for item in case.targets}, 10)
                for case, list_ in zip(split.cases, result.lists, strict=True)
            ]
        )
    assert ndcg["fused"] > 1.1 * ndcg["given"]


def test_a_seed_reproduces_the_metrics(settings: Settings, tmp_path: Path) -> None:
    for name in ("one", "two"):
        run(shop(), settings, training(tmp_path / name), to_json=True)
    for key in ("validation_ndcg_at_10", "fusion_curve", "data_sha256"):
        assert trained(tmp_path / "one")[key] == trained(tmp_path / "two")[key]
    assert (tmp_path / "one" / "fusion.safetensors").read_bytes() == (
        tmp_path / "two" / "fusion.safetensors"
    ).read_bytes()


def test_where_there_is_no_time_for_all_query_groups_some_of_the_whole_log_remain(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The clock advances by one with each group. A second run gets the same groups from the checkpoint."""
    taken: list[Case] = []

    class Paced(CasePace):
        now_s = 0.0

        def __init__(self, cases: Sequence[Case], deadline: float) -> None:
            super().__init__(cases, deadline, lambda: self.now_s)

        def __iter__(self) -> Iterator[Case]:
            for case in super().__iter__():
                taken.append(case)
                yield case

        def note(self, seconds: float) -> None:
            self.now_s += 1
            super().note(1.0)

    monkeypatch.setattr(query_group_builder, "CasePace", Paced)

    def groups(name: str, deadline: float) -> QueryGroups:
        of_run = TrainingRun(out=tmp_path / name, max_query_groups=300)
        data = gather(shop(), settings, of_run)
        checkpoint = data.checkpoint(of_run, settings)
        return data.query_groups(settings, checkpoint, deadline, no_stage, learn_merge=False).groups

    whole, cases = groups("whole", float("inf")), list(taken)
    assert capsys.readouterr().err == ""
    taken.clear()
    for _ in range(2):
        cut = groups("cut", 119)
        chosen = np.array([cases.index(case) for case in taken])
        assert cut.contexts == whole[chosen].contexts
        assert (cut.relevant_counts == whole[chosen].relevant_counts).all()
        for one, other in zip(cut.candidates.tolist(), whole[chosen].candidates.tolist(), strict=True):
            assert len({*one} ^ {*other}) <= 2  # which of two that are nearly equal is a candidate is rounding
        assert 90 <= len(chosen) <= 121
        assert (chosen >= 270).sum() >= 5
        assert f"got from the log {len(chosen)} of 300 query groups" in capsys.readouterr().err
    with pytest.raises(ModelRefused, match=r"got from the log 6 of 300 query groups .*, expected at least 50"):
        groups("few", 5)


def test_a_source_of_ones_own_gives_the_candidates_to_learn_from(settings: Settings, tmp_path: Path) -> None:
    of_run = TrainingRun(out=tmp_path, max_query_groups=60)
    own = CandidatesSettings(limit=200, sources=("tests.unit.test_evaluate:OwnSource",))
    settings = settings.model_copy(update={"candidates": own})
    data = gather(shop(), settings, of_run)
    chosen = data.query_groups(settings, data.checkpoint(of_run, settings), float("inf"), no_stage)
    groups, merge = chosen.groups, chosen.merge
    assert set(merge.recall) == {"fixed weights", "learnt weights", "by-row alone"}
    assert (groups.is_candidate.sum(axis=1) == settings.ranker.max_candidates).all()
    assert set(groups.candidates.ravel().tolist()) <= set(range(settings.ranker.max_candidates + VISITS))
    for index, case in enumerate(data.cases):
        events = Counter(event.item for event in data.log[: case.log_index])
        asked = [data.items[item].item_id for item in groups.candidates[index].tolist()]
        assert groups.is_cold[index].tolist() == [events[item] < COLD_EVENTS for item in asked]
        assert groups.cold_counts[index] == sum(events[item] < COLD_EVENTS for item in case.targets)
    users = dict(zip((case.user for case in data.cases), groups.users.tolist(), strict=True))
    assert [users[case.user] for case in data.cases] == groups.users.tolist()
    assert len(set(users.values())) == len(users)


def test_a_head_is_fitted_for_one_epoch_after_the_deadline(settings: Settings, tmp_path: Path) -> None:
    of_run = TrainingRun(out=tmp_path, max_query_groups=100)
    data = gather(shop(), settings, of_run)
    chosen = data.query_groups(settings, data.checkpoint(of_run, settings), float("inf"), no_stage)
    groups = chosen.groups
    scores = np.random.default_rng(1).standard_normal(groups.candidates.shape, np.float32)
    epochs: list[int] = []
    head = HeadSettings(softmax, 1, deadline=time.monotonic())
    fitted = fit(ScoredGroups(groups, scores), head, lambda done, _: epochs.append(done))
    assert epochs == [1, 1, 1]
    assert len(fitted.curve) == 1


def test_the_files_of_another_run_are_removed(settings: Settings, tmp_path: Path) -> None:
    """Another seed, model or log is another run; another time limit or folder is not."""
    event_log, of_run = shop(), training(tmp_path)
    data = gather(event_log, settings, of_run)
    data.checkpoint(of_run, settings).save_curve([Epoch(1.0, 0.5)])
    moved = data.checkpoint(replace(of_run, max_minutes=9), settings)
    assert moved.curve() == [Epoch(1.0, 0.5)]
    other_log = gather(replace(event_log, events=event_log.events[1:]), settings, of_run)
    for other_data, other_run in (
        (data, replace(of_run, seed=2)),
        (data, replace(of_run, base="other")),
        (other_log, of_run),
    ):
        data.checkpoint(of_run, settings).save_curve([])
        assert other_data.checkpoint(other_run, settings).curve() is None


def test_a_checkpoint_never_holds_a_partial_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint.open(tmp_path / "checkpoint", "a run")
    checkpoint.save_tuning({"step": 1})

    def killed(_: object, file: Path) -> None:
        file.write_bytes(b"half of it")
        raise KeyboardInterrupt

    monkeypatch.setattr("torch.save", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoint.save_tuning({"step": 2})
    assert Checkpoint.open(tmp_path / "checkpoint", "a run").tuning() == {"step": 1}


def test_what_was_learnt_from_wrong_labels_is_refused(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the older query groups users choose from every category but their own; the newer ones are right."""
    build = QueryGroupBuilder.build

    def wrong(*arguments: Any) -> RecalledGroups:
        recalled = build(*arguments)
        groups = recalled.groups
        older = round(len(groups) * 0.85)
        labels = groups.labels.copy()
        others = (groups.features[:, :, NAMES.index("same_category")] == 0) & groups.is_candidate
        labels[:older] = (others & (others.cumsum(axis=1) <= 10))[:older]
        return replace(recalled, groups=replace(groups, labels=labels))

    monkeypatch.setattr(QueryGroupBuilder, "build", wrong)
    with pytest.raises(SystemExit) as ended:
        run(shop(), settings, training(tmp_path / "out"), to_json=True)
    assert ended.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "got NDCG@10" in printed.err
    assert "counter co_visited" in printed.err
    assert not (tmp_path / "out" / "afterclick.json").exists()


def test_a_folder_that_holds_a_model_is_left_alone(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "afterclick.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="which holds a model"):
        run(shop(), settings, training(tmp_path), to_json=True)


def test_a_case_knows_only_the_events_before_it() -> None:
    log = ordered(synthetic(3, 2_000).events, 1)
    for case in training_cases(log, repeats="unbought", seed=1):
        before = {event.item for event in log[: case.log_index] if event.user == case.user}
        assert before
        rest = {event.item for event in log[case.log_index :] if event.user == case.user}
        assert case.targets <= rest
        assert not case.targets & {
            e.item for e in log[: case.log_index] if e.user == case.user and e.kind == "purchase"
        }


def test_a_viewed_item_is_a_target_again_and_a_bought_one_only_where_repeats_are() -> None:
    log = [
        Interaction("ann", "mug", 0, "purchase", "monday"),
        Interaction("ann", "cup", 1, "click", "monday"),
        Interaction("ann", "mug", 2, "click", "tuesday"),
        Interaction("ann", "cup", 3, "purchase", "tuesday"),
    ]
    kinds: tuple[Repeats, ...] = ("never", "unbought", "always")
    targets = {repeats: [case.targets for case in training_cases(log, repeats, 1)] for repeats in kinds}
    assert targets == {"never": [{"cup"}], "unbought": [{"cup"}] * 3, "always": [{"cup"}, {"mug", "cup"}, {"cup"}]}


def test_lines_of_one_time_make_a_case_before_the_first_and_one_from_a_later_line_on() -> None:
    monday = [Interaction("ann", item, 0, "purchase", "monday") for item in ("mug", "cup", "tea")]
    tuesday = [Interaction("ann", item, 9, "purchase", "tuesday") for item in ("pot", "jug", "bun", "hat")]
    later = set()
    for seed in range(40):
        within, before, again = training_cases(monday + tuesday, repeats="unbought", seed=seed)
        assert within.log_index in {1, 2}
        assert before.log_index == 3
        assert before.targets == {"pot", "jug", "bun", "hat"}
        assert again.targets == {event.item for event in tuesday[again.log_index - 3 :]}
        later.add(again.log_index)
    assert later == {4, 5, 6}


BASES: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "packed": (models.packed, {}),
    "cross": (models.classifier, {}),
    "decoder": (models.decoder, {}),
    "packed from an embedding model": (models.encoder, {"form": "packed"}),
    "lora": (models.packed, {"lora": True}),
    "decoder, lora": (models.base_decoder, {"lora": True}),
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
    run(
        shop(),
        settings,
        training(tmp_path / "out", base=str(base), max_query_groups=60, epochs=2, **changes),
        to_json=True,
    )
    before = {} if "form" in changes else _weights(base)
    after = _weights(tmp_path / "out")
    assert set(before) == set(after) or "form" in changes, "tied weights stay tied"
    changed = {name for name, weight in before.items() if (weight != after[name]).any()}
    if "decoder" in kind:
        assert {name for name in before if "_proj" in name} <= changed
        assert not any("embed" in name or "lm_head" in name for name in changed)
        assert trained(tmp_path / "out")["cascade"] == cascade_depth(str(tmp_path / "out")) == DECODER_DEPTH
    fused = load_scorer(str(tmp_path / "out"), "cpu", "float32")
    assert fused.feature_set
    assert isinstance(fused, FusedScorer)
    assert type(fused.base).__name__ == SERVED[kind.split(",")[0]]


def test_what_was_tuned_outlasts_a_refusal_for_lack_of_time(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There is no time to score after the tuning. The same command with more minutes does not tune again."""
    base, out = models.packed(tmp_path / "base"), tmp_path / "out"
    of_run = training(out, base=str(base), max_query_groups=60)
    with monkeypatch.context() as patched:
        patched.setattr(
            scoring, "processes", SimpleNamespace(**vars(processes) | {"is_over": lambda end: end < float("inf")})
        )
        with pytest.raises(SystemExit):
            run(shop(), settings, of_run, to_json=True)
    message = capsys.readouterr().err
    assert "got scores of" in message
    assert f"{out / 'checkpoint'} keeps" in message
    assert "the tuned model; the same command goes on from there" in message
    monkeypatch.delattr(model_fit, "fine_tune")
    run(shop(), settings, replace(of_run, max_minutes=9), to_json=True)
    assert load_scorer(str(out), "cpu", "float32").feature_set


def _weights(folder: Path) -> dict[str, Any]:
    from safetensors.numpy import load_file

    return dict(load_file(folder / "model.safetensors"))
