"""The prompt for a language model that words a reason: the task, some examples, and the grounds as facts."""

from __future__ import annotations

from ranker.reasons.grounds import CitedItem, Grounds
from ranker.reasons.language import Language


def prompt(grounds: Grounds, language: Language) -> str:
    """Ask for a text that says these grounds.

    >>> from ranker.reasons.language import english
    >>> print(prompt(Grounds("together", "view", CitedItem("i", "Tea")), english()).split("\\n\\n")[-1])
    Facts: Often seen together with “Tea”
    Sentence:
    """
    text = language.text
    if text is None:
        raise ValueError("a language without phrases for texts")
    parts = [text.prompt]
    for example in sorted(text.examples, key=lambda each: _likeness(each.grounds, grounds)):
        titles = language.joined([language.quoted(title) for title in example.titles])
        answer = example.text.format(titles=titles, category=language.quoted(example.category))
        parts.append(f"{text.facts.format(facts=_facts(example.grounds, language))}\n{text.sentence} {answer}")
    parts.append(f"{text.facts.format(facts=_facts(grounds, language))}\n{text.sentence}")
    return "\n\n".join(parts)


def _likeness(example: Grounds, grounds: Grounds) -> tuple[bool, bool]:
    """The example that is most like the case comes last: small models copy it."""
    return example.kind == grounds.kind, bool(example.category) == bool(grounds.category)


def _facts(grounds: Grounds, language: Language) -> str:
    """The grounds as the template says them, with all names that a text may have in quotation marks."""
    titles = [each.title for each in (*filter(None, [grounds.cited]), *grounds.alike)]
    quoted = CitedItem("", language.joined([language.quoted(title) for title in titles]))
    names = tuple(map(language.quoted, grounds.names))
    said = language.sentence(grounds._replace(cited=quoted, names=names))
    if grounds.category and language.text is not None:
        return f"{said}. {language.text.category.format(category=language.quoted(grounds.category))}"
    return said
