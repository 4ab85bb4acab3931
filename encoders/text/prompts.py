"""The prompts of an embedding model: "query: " before a text that searches, "passage: " before a text to be found.

Read from `config_sentence_transformers.json`: a query's prompt is `query`, a document's is `document`, `passage` or
`corpus`, and a kind without its own prompt gets the default one. Items get the document's prompt wherever they are
encoded, because they are compared with each other too: in the catalogue's index and in users' sums of item vectors both
sides must be encoded alike. Events of a context get the query's prompt: they are compared with items only.
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
"""A family whose model cards ask for prompts that its files do not name."""
E5_QUERY, E5_DOCUMENT = "query: ", "passage: "
E5_PUBLISHER = "intfloat/"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """The texts that come before a query and before a document; '' for none."""

    query: str = ""
    document: str = ""


def read(name: str, folder: Path) -> Prompts:
    """Read the prompts of the model in `folder`.

    The E5 models of their publisher on the hub name no prompts and get those of their model cards. Another model that
    looks like an E5 model is used without prompts, and a warning says so.

    Parameters
    ----------
    name : str
        The model as it was named.
    folder : Path

    Raises
    ------
    ModelUnsupported
        The file is damaged, or refers to a prompt that it does not have.
    """
    given = model_source.read_json(folder, FILE, dict) or {}
    named, fallback = _named(folder, given), default(folder)
    document = next((named[kind] for kind in DOCUMENT_NAMES if kind in named), fallback)
    prompts = Prompts(named.get("query", fallback), document)
    if "prompts" in given or not _is_e5(name, folder):
        return prompts
    if name.startswith(E5_PUBLISHER):
        return Prompts(E5_QUERY, E5_DOCUMENT)
    logger.warning(
        "%s looks like an E5 model, which needs the prompt %r before queries and %r before items, but names no "
        "prompts: it is used without them, and finds less. Add them to its %s, under prompts: query and document; or "
        'write {"prompts": {}} there if it was trained without prompts',
        name,
        E5_QUERY,
        E5_DOCUMENT,
        FILE,
    )
    return prompts


def default(folder: Path) -> str:
    """Return the prompt of every text without a prompt of its own kind; '' for none.

    Raises
    ------
    ModelUnsupported
        The file is damaged, or refers to a prompt that it does not have.
    """
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
