"""The prompts of an embedding model: "query: " before a text that searches, "passage: " before a text to be found.

Read from `config_sentence_transformers.json`: a query's prompt is `query`, a document's is `document`, `passage` or
`corpus`, and a kind without its own prompt gets the default one. An E5 model whose file names no prompts gets those of
its model card.

Items get the document's prompt wherever they are encoded, because they are compared with each other too: in the
catalogue's index, and in a user's interests, which are sums of items' vectors. Both sides of a comparison must be
encoded alike. Single events, which a bi-encoder encodes, get the query's prompt: they are compared with items only.
"""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.models.files import MULTILINGUAL, names

FILE = "config_sentence_transformers.json"
DOCUMENT_NAMES = ("document", "passage", "corpus")
E5 = re.compile(r"(?<![a-z0-9])e5-(small|base|large)(?!.*instruct)", re.IGNORECASE)
"""A family whose model cards ask for prompts that its files do not name."""
E5_QUERY, E5_DOCUMENT = "query: ", "passage: "

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prompts:
    """The texts that come before a query and before a document; '' for none."""

    query: str = ""
    document: str = ""

    def check_pooled(self, folder: Path, pools_prompts: bool) -> None:
        """Make sure that the model pools the tokens of prompts with those of texts, if there are prompts.

        Raises
        ------
        ModelUnsupported
        """
        if not pools_prompts and self != Prompts():
            raise model_source.ModelUnsupported(
                f"{folder}: got include_prompt false in its pooling, expected prompts that are pooled with their "
                f"texts; choose another model, such as {MULTILINGUAL}"
            )


def read(name: str, folder: Path) -> Prompts:
    """Read the prompts of the model in `folder`.

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
    e5 = next(filter(E5.search, names(name, folder)), "")
    if not e5 or prompts != Prompts():
        return prompts
    wanted = f"{name} is named {e5}: E5 models want {E5_QUERY!r} before queries and {E5_DOCUMENT!r} before items"
    if "prompts" in given:
        logger.info("%s, but its %s says that it has none, so it gets none", wanted, FILE)
        return prompts
    logger.info('%s, so it gets them; write {"prompts": {}} into its %s if it was trained without', wanted, FILE)
    return Prompts(E5_QUERY, E5_DOCUMENT)


def keep(name: str, source: Path, folder: Path) -> None:
    """Write the prompts of the model in `source` into the folder of one that was made from it and has another name."""
    prompts = read(name, source)
    if prompts != Prompts():
        given = model_source.read_json(source, FILE, dict) or {}
        named = {"query": prompts.query, DOCUMENT_NAMES[0]: prompts.document}
        (folder / FILE).write_text(
            json.dumps(given | {"prompts": (given.get("prompts") or {}) | named}), encoding="utf-8"
        )


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
