"""Settings of the team's own topics: where a topic is, which of its records count, and where each field is in them.

A table of these settings is complete: what its profile gives is merged in. Knows neither Kafka nor how a record is
mapped.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from streams.contracts import TOPICS
from streams.metric_labels import INPUTS
from streams.settings.errors import MAPPING, SettingsError
from streams.settings.group import SettingsGroup, setting
from streams.settings.profile import PROFILES, parse_toml, profile_tables
from streams.settings.topic_checks import check_table, check_tables, values_of

MAPPED_INPUTS = tuple(name for name in INPUTS if name != "rank-requests")
"""The inputs that a topic or a file of another shape can feed."""
INTERNAL_TOPICS = ("routed-events", "item-counts")
"""Topics that the workers write for each other, beside those that have a contract."""
Scalar = bool | int | float | str
Scalars = tuple[Scalar, ...]
Paths = str | tuple[str, ...] | dict[str, str]


class TopicSource(BaseModel):
    """One topic of the team's, or one file, that feeds one input.

    Attributes
    ----------
    name : str
        The topic's name in Kafka, as it is: no prefix is put before it.
    profile : str, optional
        The ready-made mapping that this table is read over.
    where : dict
        Path to value, or to several: only records that have (one of) them at each path are for this input. `*`: any
        value. Of the values in a list (`products[].type`) one is enough.
    delete : dict
        Likewise: such a record deletes its item. For items only.
    fields : dict
        Contract field to the path of its value, or to several: the first that has a value, but for `categories` and
        `entities` the values of all. For an object (`attributes`, `context`) a table of names and paths. For
        `available` also `not path`, `path > number` and `path = value`. "" unsets what the profile sets.
    constants : dict
        Contract field to the value of a message that has none.
    time_unit : str, optional
        Unit of the times: s, ms, us, ns or iso. Without it, milliseconds and RFC 3339 are told apart.
    decimal_comma : bool
        Numbers that are texts have a decimal comma, and perhaps dots between thousands: 1.234,50.
    each : str or tuple of str
        Path of a list: each member becomes a message. Path of an object: it becomes the message. Of several paths the
        first that has a value counts. Fields are looked up in the member, then in the record.
    category_separator : str
        What separates the categories in a text, from the root to the leaf. For items only.
    types : dict of str to str
        Your name of a type of event to ours, or to another one of yours. For events only.
    weights : dict of str to float
        What the types weigh, by their names after `types`, unless `interest.weights` says it. For events only.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: str
    profile: str | None = None
    where: dict[str, Scalars] = {}
    delete: dict[str, Scalars] = {}
    fields: dict[str, Paths] = {}
    constants: dict[str, Any] = {}
    time_unit: Literal["s", "ms", "us", "ns", "iso"] | None = None
    decimal_comma: bool = False
    each: str | tuple[str, ...] = ""
    category_separator: str = ""
    types: dict[str, str] = {}
    weights: dict[str, float] = {}

    @field_validator("where", "delete", mode="before")
    @classmethod
    def _several(cls, tests: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
        return {path: values_of(value) for path, value in tests.items()}


def topic_source(input_name: str, table: Mapping[str, Any]) -> TopicSource:
    """Make a mapping to one input from a table as TOML has it.

    Raises
    ------
    SettingsError
        One line for each mistake: what, got, expected, what to do.
    """
    complete, problems = check_table(input_name, table)
    if problems:
        raise SettingsError("\n".join(f"{input_name}: {problem}" for problem in problems))
    return TopicSource(**complete)


def profile_sources(profile: str, name: str) -> dict[str, TopicSource]:
    """Return the mapping of a profile to each input that it has fields for, for a topic or file of this name.

    Raises
    ------
    SettingsError
        There is no such profile, or it lacks fields that only a table of the user's can name.
    """
    if profile not in PROFILES:
        raise SettingsError(f"profile: got {profile!r}, expected one of {', '.join(PROFILES)}; correct it")
    try:
        return {
            input_name: topic_source(input_name, {"name": name, "profile": profile})
            for input_name in profile_tables(profile)
        }
    except SettingsError as error:
        raise SettingsError(
            f"{error}\nprofile: {profile!r} cannot know these names: write a table, such as [topics.items], with "
            f'profile = "{profile}" and your fields, and name its file by --config'
        ) from None


class TopicsSettings(SettingsGroup):
    """Topics of yours in their own shape, which the workers read besides the contract's."""

    clicks: tuple[TopicSource, ...] = setting(
        (),
        "Topics of yours that are read as clicks too, each with a mapping to the contract's fields.",
        unit="TOML table, or an array of tables",
    )
    purchases: tuple[TopicSource, ...] = setting(
        (), "Topics of yours that are read as purchases too.", unit="TOML table, or an array of tables"
    )
    events: tuple[TopicSource, ...] = setting(
        (),
        "Topics of yours that are read as events of any type too; `types` renames yours, `weights` weighs them.",
        unit="TOML table, or an array of tables",
    )
    searches: tuple[TopicSource, ...] = setting(
        (), "Topics of yours that are read as searches too.", unit="TOML table, or an array of tables"
    )
    preferences: tuple[TopicSource, ...] = setting(
        (), "Topics of yours that are read as wishes too.", unit="TOML table, or an array of tables"
    )
    impressions: tuple[TopicSource, ...] = setting(
        (), "Topics of yours that are read as impressions too.", unit="TOML table, or an array of tables"
    )
    items: tuple[TopicSource, ...] = setting(
        (), "Topics of yours that are read as the catalogue too.", unit="TOML table, or an array of tables"
    )
    knowledge: tuple[TopicSource, ...] = setting(
        (),
        "Topics of yours that are read as triples of the knowledge graph too.",
        unit="TOML table, or an array of tables",
    )
    forget: tuple[TopicSource, ...] = setting(
        (), "Topics of yours whose records erase a user.", unit="TOML table, or an array of tables"
    )
    merges: tuple[TopicSource, ...] = setting(
        (), "Topics of yours whose records say which user a visitor is.", unit="TOML table, or an array of tables"
    )

    @field_validator(*MAPPED_INPUTS, mode="before")
    @classmethod
    def _read(cls, value: object, info: ValidationInfo) -> object:
        complete, problems = check_tables(info.field_name or "", _tables(value))
        if problems:
            raise wrong_mapping(("", problem) for problem in problems)
        return tuple(TopicSource(**table) for table in complete)

    @property
    def event_weights(self) -> dict[str, float]:
        """What the tables of events say that types weigh; of two tables the later one counts."""
        return {name: weight for source in self.events for name, weight in source.weights.items()}

    def of(self, input_name: str) -> tuple[TopicSource, ...]:
        """Return the topics that feed an input; none for a topic that no other can feed."""
        sources: tuple[TopicSource, ...] = getattr(self, input_name) if input_name in MAPPED_INPUTS else ()
        return sources


def wrong_mapping(problems: Iterable[tuple[str, str]]) -> PydanticCustomError:
    """Make the error that `streams.settings.errors` prints line by line."""
    return PydanticCustomError(MAPPING, "a mapping", {"problems": list(problems)})


def own_topics_among(topics: TopicsSettings, prefix: str) -> list[tuple[str, str]]:
    """Name the tables whose topic is one of ours: the workers read it anyway, or write it themselves."""
    ours = {prefix + name for name in (*TOPICS, *INTERNAL_TOPICS)}
    line = (
        "{}: name: got a topic of Afterclick's own, expected one of yours; take the table out, or set "
        "AFTERCLICK_TOPIC_PREFIX, which renames ours"
    )
    return [
        (f"__{input_name.upper()}", line.format(source.name))
        for input_name in MAPPED_INPUTS
        for source in topics.of(input_name)
        if source.name in ours
    ]


def _tables(value: object) -> list[object]:
    """Read one table or several: of TOML, of the text of an environment variable (JSON or TOML), or made before."""
    if isinstance(value, str):
        value = _parse(value)
    tables = list(value) if isinstance(value, (list, tuple)) else [value]
    return [table.model_dump(exclude_defaults=True) if isinstance(table, TopicSource) else table for table in tables]


def _parse(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return parse_toml(f"value = {text}")["value"]
    except ValueError as error:
        problem = f"got {text[:60]!r}, expected JSON or an inline table of TOML; {error}"
        raise wrong_mapping([("", problem)]) from None
