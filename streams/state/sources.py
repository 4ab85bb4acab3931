"""The sources of candidates that the settings name, and the catalogue that they read. Asks none of them."""

from __future__ import annotations

from usearch.index import Index

from ranker.recall.again import Again
from ranker.recall.candidates import BUILT_IN, Source
from ranker.recall.catalogue import Catalogue
from streams.settings import Settings, SettingsError
from streams.settings.import_path import imported


def sources_of(settings: Settings) -> list[Source]:
    """Return the sources that the settings name: built-in ones, and the user's own by import path.

    Raises
    ------
    SettingsError
        A name is not the name of a source, or its class cannot be made.
    """
    built_in = {source.name: source for source in BUILT_IN}
    found = [built_in[name] if name in built_in else _imported(name) for name in settings.candidates.sources]
    return [*found, Again()] if settings.candidates.repeats == "favoured" else found


def catalogue_of(settings: Settings, dim: int, graph: Index | None = None) -> Catalogue:
    """Return an empty catalogue that keeps what the settings name of each item; see `Catalogue`."""
    kept = settings.candidates
    return Catalogue(dim, graph=graph, embedding_names=kept.dims, number_names=kept.numbers, domains=kept.domains)


def _imported(path: str) -> Source:
    setting, expected = (
        "AFTERCLICK_CANDIDATES__SOURCES",
        f"one of {', '.join(source.name for source in BUILT_IN)} or module:Class",
    )
    kind = imported(path, setting, expected)
    try:
        source: Source = kind()
    except TypeError as error:
        raise SettingsError(f"{setting}: got {path!r} ({error}), expected {expected}; correct it") from error
    return source
