"""The words that an embedding model wants before a text: "query: " before what is searched with, "passage: " before
what is found.

Read from `config_sentence_transformers.json`: a query's prompt is `query`, a document's is `document`, `passage` or
`corpus`, and each without one of its own has the default. Items get the document's prompt wherever they are encoded,
for they are compared with each other too: in the catalogue's index and in users' sums of items' vectors, where both
sides must be encoded alike. Events of a context get the query's: they are only ever compared with items.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.models import source as model_source

FILE = "config_sentence_transformers.json"
DOCUMENT_NAMES = ("document", "passage", "corpus")
E5 = re.compile(r"(?<![a-z0-9])e5-(small|base|large)(?!.*instruct)", re.IGNORECASE)
"""A family whose model cards ask for prompts that its files do not name, and the prompts."""
E5_QUERY, E5_DOCUMENT = "query: ", "passage: "
E5_PUBLISHER = "intfloat/"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """What is put before a query's and before a document's text; '' for nothing."""

    query: str = ""
    document: str = ""


def read(name: str, folder: Path) -> Prompts:
    """Read the prompts of the model in `folder`.

    The E5 models that their publisher has on the hub name none and get those of their model cards. Another model that
    looks like one of them is used as it is, and a warning says so.

    Raises
    ------
    ModelUnsupported
        The file is damaged, or asks for a prompt that it does not have.
    """
    given = model_source.read_json(folder, FILE, dict) or {}
    prompts, otherwise = _named(folder, given), default(folder)
    document = next((prompts[kind] for kind in DOCUMENT_NAMES if kind in prompts), otherwise)
    found = Prompts(prompts.get("query", otherwise), document)
    if "prompts" in given or not _is_e5(name, folder):
        return found
    if name.startswith(E5_PUBLISHER):
        return Prompts(E5_QUERY, E5_DOCUMENT)
    logger.warning(
        "%s looks like an E5 model, which wants %r before what is searched with and %r before items, and names no "
        "prompts: it is used without, and finds less. Name them in its %s, under prompts: query and document; or say "
        'there {"prompts": {}} if it was trained without',
        name,
        E5_QUERY,
        E5_DOCUMENT,
        FILE,
    )
    return found


def default(folder: Path) -> str:
    """The prompt that comes before every text which no other prompt is named for; '' for none."""
    given = model_source.read_json(folder, FILE, dict) or {}
    prompts, name = _named(folder, given), given.get("default_prompt_name")
    if name is not None and name not in prompts:
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: default_prompt_name: got {name!r}, expected one of "
            f"{', '.join(prompts) or 'no prompt'}; correct it"
        )
    return "" if name is None else prompts[name]


def _named(folder: Path, given: dict[str, Any]) -> dict[str, str]:
    prompts = given.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: prompts: got {prompts!r}, expected a text for each name; correct it"
        )
    return prompts


def _is_e5(name: str, folder: Path) -> bool:
    config = model_source.read_json(folder, "config.json", dict) or {}
    return E5.search(f"{name} {config.get('_name_or_path', '')}") is not None
