"""`afterclick recommend`: read one list from Redis, look up its titles in Kafka, and say what there is to say about it.

Kafka is asked for `LIMIT_S` at most. Without it the list is printed without titles.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from streams.commands.lookup import LIMIT_S, Lookup, look_up
from streams.contracts import COLD_START_USER
from streams.kafka.record_time import now_ms
from streams.publish.list_cache import ListCache
from streams.receive.pseudonym import pseudonym
from streams.settings import PREFIX, Settings
from streams.terminal.report import Field, Report

DEGRADED = {
    "cold-user": "nothing is known about the user",
    "no-model": "no model is loaded, or AFTERCLICK_RANKER__MODEL is none",
    "overload": "the request would have waited longer than AFTERCLICK_RANKER__MAX_WAIT_MS; the model ranks "
    "it again when it has time",
    "no-candidates": "no item may be recommended to the user",
    "model-error": "the model failed; the log of the rank worker says how",
    "model-timeout": "the model took longer than AFTERCLICK_RANKER__TIMEOUT_MS",
    "model-busy": "the model still computes an earlier batch that took too long",
    "model-not-finite": "a score was NaN or infinite",
    "no-features": "the request has no features, and the model needs them",
    "other-features": "the request has the features of another model; it is ranked again by the model that serves",
}
"""Why a list was made without the model, in words."""
DAY_S = 86_400


@dataclass(frozen=True)
class Answer:
    """A list, with what there is to say about it.

    Attributes
    ----------
    stored : bytes or None
        The list, as JSON. None: the user has none, and there is no cold-start list either.
    notes : list of str
        One line each.
    titles : dict of str to str
        Of the list's items.
    """

    stored: bytes | None
    notes: list[str]
    titles: dict[str, str] = field(default_factory=dict)


async def read(settings: Settings, user_id: str, placement: str | None, with_titles: bool) -> Answer:
    """Read the list of a user, or the cold-start list if there is none.

    Raises
    ------
    streams.publish.redis_refusal.CacheUnavailable
        Redis does not answer, or refuses.
    streams.settings.SettingsError
        The placement is not declared.
    """
    stored_as = pseudonym(user_id, settings.pseudonym_key)
    own = await ListCache.read_once(settings, stored_as, placement)
    stored = await ListCache.read_once(settings, COLD_START_USER) if own is None else own
    content = json.loads(stored) if stored else {"items": [], "degraded": None}
    is_strange = own is None or not content["items"] or (content["degraded"] and user_id != COLD_START_USER)
    if not is_strange and not with_titles:
        return Answer(stored, [])
    items = [item["item_id"] for item in content["items"]] if with_titles else []
    found = await look_up(settings, items, stored_as if is_strange else None)
    notes = []
    if own is None:
        where = f"{user_id!r}{f' in {placement}' if placement else ''}"
        notes += [f"no list for {where}: {line}" for line in why_none(settings, found)]
        there = "there is no cold-start list either: no worker runs, or there are no items"
        notes.append(f"this is the cold-start list ({COLD_START_USER!r})" if stored else there)
    elif is_strange:
        notes += why_strange(content["degraded"], len(content["items"]), found)
    return Answer(stored, [*notes, *_of_workers(found)], found.titles)


def why_none(settings: Settings, found: Lookup) -> list[str]:
    """Say why a user has no list."""
    if found.error:
        return [
            "no event of this user was accepted, the list expired, or the user was forgotten; Kafka, which knows more, "
            f"cannot be asked: {found.error}"
        ]
    if found.is_empty:
        return [_empty(found)]
    if found.merged_into:
        return [f"the user was merged into {found.merged_into!r}, who has the list now; afterclick recommend shows it"]
    if found.user is None:
        more = "" if found.whole else f" (Kafka was read for {LIMIT_S:g} s, and not to its end)"
        return [
            f"no event of this user was accepted, or the user was forgotten{more}; "
            "afterclick dead-letters list shows rejected events"
        ]
    if found.all_unknown:
        return [_unknown(found)]
    age_s, ttl_s = (now_ms() - found.user.as_of_ms) / 1000, settings.redis.ttl_s
    if age_s > ttl_s:
        return [
            f"it expired: the newest event is {age_s / DAY_S:.1f} days old, and {PREFIX}REDIS__TTL_S keeps lists for "
            f"{ttl_s / DAY_S:.1f} days; the next event makes a new one"
        ]
    return [
        f"events of this user were accepted ({found.user.version:,}), but no rank worker has written the list to Redis"
    ]


def why_strange(degraded: str | None, items: int, found: Lookup) -> list[str]:
    """Say why a list is empty, or was made without the model."""
    notes = [f"made without the model: {degraded}: {DEGRADED.get(degraded or '', 'see streams/README.md')}"] * bool(
        degraded
    )
    if found.error:
        return notes
    if found.is_empty:
        return [*notes, _empty(found)]
    if found.all_unknown:
        return [*notes, _unknown(found)]
    return notes if items else [*notes, "the list is empty: every item is unavailable, or the user bought it"]


def render(answer: Answer) -> Report:
    """Draw a list, with the title, the source and the reason of each item."""
    stored = json.loads(answer.stored or b"{}")
    of = "the cold-start list"
    if stored["user_id"] != COLD_START_USER:
        of = f"{stored['user_id']}: {_events(stored['state_version'])}"
    title = f"{of}, " + ("made without the model" if stored["degraded"] else f"ranked by {stored['model']}")
    words = [Field(heading, wrap=16) for heading in ("from", "reason")]
    fields = (Field("rank", number=True), Field("item"), Field("title", wrap=16), Field("score", number=True), *words)
    report = Report(fields, title, keys=3)
    for item in stored["items"]:
        score = "" if item["score"] is None else f"{item['score']:.3f}"
        name = answer.titles.get(item["item_id"], "")
        sources = ", ".join(item["sources"])
        report.add(str(item["rank"]), item["item_id"], name, score, sources, item["reason"]["text"])
    return report


def _events(number: int) -> str:
    return f"{number:,} event{'' if number == 1 else 's'}"


def _empty(found: Lookup) -> str:
    return (
        f"the catalogue is empty: {found.items_topic} has no item; send items, or let [topics.items] name a topic of "
        "yours that has them"
    )


def _unknown(found: Lookup) -> str:
    number = f" ({found.user.version:,})" if found.user else ""
    return (
        f"no event of the user{number} is about an item that the catalogue has; send these items to "
        f"{found.items_topic}, under the item_id that the events name, and the newest events count"
    )


def _of_workers(found: Lookup) -> list[str]:
    if found.error:
        return [] if found.users_wanted else [f"no titles: Kafka cannot be asked: {found.error}"]
    missing = [tier for tier, members in found.members.items() if not members]
    notes = []
    if not found.whole:
        notes = [f"{found.items_topic} was read for {LIMIT_S:g} s, and not to its end: titles may be missing"]
    return notes + [f"no {' and no '.join(missing)} worker runs: lists do not change until one does"] * bool(missing)
