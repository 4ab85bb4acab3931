"""How reasons read in one language: templates as data, and a sentence for each kind of grounds.

A language is a TOML file; `languages/en.toml` explains the names. Knows no model.
"""

from __future__ import annotations

import string
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from encoders.errors import AfterclickError
from ranker.reasons.grounds import CitedItem, Grounds

SHIPPED = Path(__file__).with_name("languages")
ENGLISH = "en"
NAMED: Mapping[str, frozenset[str]] = {
    "together": frozenset({"title"}),
    "searched": frozenset({"search"}),
    "pinned": frozenset(),
    "trending": frozenset(),
    "newest": frozenset(),
    "other": frozenset(),
    "wished": frozenset({"reason", "wishes"}),
    "direct": frozenset({"because", "relation"}),
    "inverse": frozenset({"relation", "title"}),
    "both": frozenset({"relation", "name", "title"}),
    "both_inverse": frozenset({"relation", "name", "title"}),
    "linked": frozenset({"names", "title"}),
}
"""What the template of each kind of grounds names. `Relation` is `relation` with a capital."""
Table = dict[str, Any]


class LanguageError(AfterclickError):
    """The file of a language cannot be used. The message names the file and what is wrong."""


class TextExample(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a language model is shown: grounds, and a text that says them."""

    titles: list[str]
    text: str
    kind: str = "because"
    event: str = "view"
    category: str = ""

    @property
    def grounds(self) -> Grounds:
        """The grounds of the example."""
        first, *more = (CitedItem(title, title) for title in self.titles)
        return Grounds(self.kind, self.event, first, tuple(more), self.category)


class TextPhrases(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a language model is told, and what its texts may consist of.

    `words` say nothing of the user or of an item. `because` says what the user did, by the type of the event, and
    `says` the rest, by the kind of grounds. A phrase names what it is about: `you viewed {titles}`.
    """

    prompt: str
    facts: str
    sentence: str
    category: str
    words: list[str]
    because: dict[str, list[str]]
    says: dict[str, list[str]]
    examples: list[TextExample]


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    quotes: tuple[str, str]
    and_: str = msgspec.field(name="and")
    because: dict[str, str]
    reason: dict[str, str]
    path: dict[str, str]
    relations: dict[str, str] = {}
    text: TextPhrases | None = None


class Language:
    """The templates of one language.

    Parameters
    ----------
    tables : dict
        The tables of the file.

    Attributes
    ----------
    quotes : tuple of str
        The opening and the closing quotation mark.
    and_ : str
        Stands before the last of several names.
    text : TextPhrases, optional
        None: no language model writes in this language.

    Raises
    ------
    LanguageError
        Something is missing, or unknown.
    """

    def __init__(self, tables: Table) -> None:
        try:
            file = msgspec.convert(tables, _File)
        except msgspec.ValidationError as error:
            raise LanguageError(str(error)) from error
        if problems := list(_problems(file)):
            raise LanguageError("; ".join(problems))
        self.quotes, self.and_, self.text = file.quotes, file.and_, file.text
        self._because, self._relations = file.because, file.relations
        self._templates = {**file.reason, **file.path}

    def sentence(self, grounds: Grounds) -> str:
        """Say the grounds in one line.

        >>> Language.read(SHIPPED / "en.toml").sentence(Grounds("trending"))
        'Popular right now'
        """
        title = grounds.cited.title if grounds.cited else ""
        because = self.because(grounds.event).format(title=title) if title else ""
        if grounds.kind == "because":
            return because
        relation = self.relation(grounds)
        return self._templates[grounds.kind].format(
            title=title,
            because=because,
            relation=relation,
            Relation=relation[:1].upper() + relation[1:],
            name=grounds.names[0] if grounds.names else "",
            names=self.joined(grounds.names),
            search=grounds.search,
        )

    def with_wishes(self, reason: str, wishes: Sequence[str]) -> str:
        """Add to a reason the wishes of the user that the item fits.

        >>> Language.read(SHIPPED / "en.toml").with_wishes("New", ["only vegan", "cheaper"])
        'New; you asked for: only vegan, cheaper'
        """
        if not wishes:
            return reason
        return self._templates["wished"].format(reason=reason, wishes=", ".join(dict.fromkeys(wishes)))

    def because(self, event: str) -> str:
        """The template for an event of this type."""
        return self._because.get(event) or self._because["view"]

    def relation(self, grounds: Grounds) -> str:
        """How the relation of a path reads."""
        return self._relations.get(grounds.relation, grounds.relation)

    def joined(self, names: Sequence[str]) -> str:
        """Several names as one text."""
        return self.and_.join(filter(None, [", ".join(names[:-1]), *names[-1:]]))

    def quoted(self, name: str) -> str:
        """A name in quotation marks."""
        return f"{self.quotes[0]}{name}{self.quotes[1]}"

    @classmethod
    def read(cls, *paths: Path) -> Language:
        """Read a language from its file; what a later file has replaces what an earlier one has.

        Raises
        ------
        LanguageError
        """
        tables: Table = {}
        for path in paths:
            try:
                own = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
                raise LanguageError(f"{path}: got {error}, expected a file of phrases in TOML; correct it") from error
            for key, value in own.items():
                both = isinstance(value, dict) and isinstance(tables.get(key), dict)
                tables[key] = {**tables[key], **value} if both else value
        try:
            return cls(tables)
        except LanguageError as error:
            raise LanguageError(f"{paths[-1]}: {error}; see the file of English in ranker/reasons/languages") from error


class Languages:
    """All languages that reasons can be given in.

    Parameters
    ----------
    default : str
        The language of everybody whose own is not known.
    folder : Path, optional
        Further files `xx.toml`. One of a shipped language replaces some of its phrases; another one has to be whole.

    Raises
    ------
    LanguageError
        A file cannot be used, or there is none of the default.
    """

    def __init__(self, default: str = ENGLISH, folder: Path | None = None) -> None:
        own = {path.stem.casefold(): path for path in sorted(folder.glob("*.toml"))} if folder else {}
        if folder is not None and not own:
            raise LanguageError(f"{folder}: got no file of phrases, expected a folder with `fr.toml` or the like")
        shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.toml"))}
        self._languages = {
            name: Language.read(*filter(None, [shipped.get(name), own.get(name)])) for name in shipped | own
        }
        found = self.find(default)
        if found is None:
            raise LanguageError(
                f"reasons.language: got {default!r}, expected one of {', '.join(sorted(self._languages))}; add "
                f"{default}.toml to the folder reasons.phrases"
            )
        self.default = found

    def find(self, tag: str) -> Language | None:
        """Find the language of a tag as browsers send it: `de-AT` is `de`, unless there is a file of its own.

        >>> languages = Languages()
        >>> languages.find("zh-Hans-CN") is languages.find("ZH_tw") is languages.find("zh")
        True
        >>> languages.find("tlh")
        """
        parts = tag.strip().casefold().replace("_", "-").split("-")
        names = ("-".join(parts[:length]) for length in range(len(parts), 0, -1))
        return next((self._languages[name] for name in names if name in self._languages), None)


@cache
def english() -> Language:
    """Return the shipped English."""
    return Language.read(SHIPPED / f"{ENGLISH}.toml")


def _problems(file: _File) -> Iterator[str]:
    """What is wrong with the templates of a file."""
    templates = {**file.reason, **file.path}
    for name in templates.keys() ^ NAMED.keys():
        state = "an unknown template" if name in templates else "no template"
        yield f"got {state} {name!r}, expected {', '.join(NAMED)}"
    if "view" not in file.because:
        yield "because: got no template 'view', expected one for events of any type"
    named = {**{f"because.{event}": frozenset({"title"}) for event in file.because}, **NAMED}
    templates |= {f"because.{event}": template for event, template in file.because.items()}
    for name in templates.keys() & named.keys():
        if wrong := _wrong_names(templates[name], named[name]):
            yield f"{name}: {wrong}"


def _wrong_names(template: str, expected: Collection[str]) -> str:
    """Say what is wrong with a template that has to name exactly these; '' if nothing is."""
    try:
        fields = [(name, spec, conversion) for _, name, spec, conversion in string.Formatter().parse(template)]
    except ValueError as error:
        return f"got {template!r}, which is no template ({error}); write {{{{ for a brace"
    given = {"relation" if name == "Relation" else name for name, *_ in fields if name is not None}
    if given != set(expected) or any(spec or conversion for _, spec, conversion in fields):
        names = ", ".join(f"{{{name}}}" for name in sorted(expected)) or "no name in braces"
        return f"got {template!r}, expected {names} in it"
    return ""
