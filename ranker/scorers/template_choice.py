"""The template of a decoder: which one its folder gives, names, or calls for.

One that its file neither gives nor names is chosen by what is in the folder: Qwen3-Reranker's if its name or its files
say so, otherwise a question in the form of its chat template. A base model, which has none, has the likelihood if that
ranks the known pairs, and else a question in plain text (`ranker.scorers.generic_template`).
"""

from __future__ import annotations

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from encoders.models import source as model_source
from encoders.models.files import names
from ranker.scorers import generic_template
from ranker.scorers.template import FILE, LIKELIHOOD, NAMED, TEXTS, Template, texts

QWEN3_RERANKER = re.compile(r"qwen3[-_]?reranker", re.IGNORECASE)
QWEN3_RERANKER_WORDS = "Judge whether the Document meets the requirements based on the Query"
PROMPT_FILES = (
    "chat_template.jinja",
    "chat_template.json",
    "tokenizer_config.json",
    "config_sentence_transformers.json",
)
"""Files in which a model may name the words that it was trained with."""

logger = logging.getLogger(__name__)


class TemplateChoice(NamedTuple):
    """A template, what it is called in the log, and why it was chosen."""

    template: Template
    called: str
    reason: str


def choices(folder: Path, tokenizer: Any, name: str = "") -> list[TemplateChoice]:
    """The templates that a decoder may have, by what its folder says: one, or two of which the first is to be tried.

    Parameters
    ----------
    folder : Path
    tokenizer : transformers.PreTrainedTokenizerFast
    name : str
        The model as it was named.

    Raises
    ------
    ModelUnsupported
        `afterclick.json` has an unknown key, a value that is not a string, an empty prefix, middle or suffix, or
        answers to a question that its template does not ask.
    """
    given, named = texts(folder) or {}, (model_source.read_json(folder, FILE, dict) or {}).get("template")
    continued = Template(**generic_template.continued(tokenizer))
    if named == LIKELIHOOD:
        return [TemplateChoice(replace(continued, **given), "the likelihood of the candidate", f"its {FILE} names it")]
    question = _choose(folder, given, tokenizer, name)
    if given or tokenizer.chat_template or _qwen3_reranker(folder, name):
        return [question]
    return [TemplateChoice(continued, "the likelihood of the candidate", "it has no chat template"), question]


def report(choice: TemplateChoice, name: str) -> None:
    """Log in which words a model is asked, and why."""
    logger.info("%s is asked by %s: %s", name, choice.called, choice.reason)


def _choose(folder: Path, given: dict[str, str], tokenizer: Any, name: str) -> TemplateChoice:
    """A template that asks a question."""
    if given.keys() >= set(TEXTS):
        return TemplateChoice(Template(**given), "its own template", f"its {FILE} gives all texts")
    template, called, reason = _by_evidence(folder, tokenizer, name)
    if template == Template() and "prefix" not in given and "<|im_start|>" not in tokenizer.get_vocab():
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: got no prefix, and the model does not know the template of {NAMED} (<|im_start|>), "
            f"which it should have ({reason}); write one with {', '.join(TEXTS)}"
        )
    if not given:
        return TemplateChoice(template, called, reason)
    own = f"its own {', '.join(text for text in TEXTS if text in given)}"
    return TemplateChoice(replace(template, **given), f"{own} and the rest of {called}", f"by its {FILE}; {reason}")


def _by_evidence(folder: Path, tokenizer: Any, name: str) -> TemplateChoice:
    if why := _qwen3_reranker(folder, name):
        return TemplateChoice(Template(), f"the template of {NAMED}", why)
    doubt = f"it does not say in which words it was trained to rank (write them into {FILE}, or train it)"
    if (chat := generic_template.in_chat(tokenizer)) is not None:
        return TemplateChoice(Template(**chat), "a question in its chat template", doubt)
    what = "its chat template cannot be used" if tokenizer.chat_template else "it has no chat template"
    plain = generic_template.plain(tokenizer)
    return TemplateChoice(Template(**plain), "a question in plain text", f"{what}, and {doubt}")


def _qwen3_reranker(folder: Path, name: str) -> str:
    """Why the model is Qwen3-Reranker, or one made from it; '' if nothing says so."""
    description = model_source.read_json(folder, FILE, dict) or {}
    if "template" in description:
        return f"its {FILE} names it"
    if called := next(filter(QWEN3_RERANKER.search, names(name, folder)), ""):
        return f"the model is named {called}"
    for file in PROMPT_FILES:
        path = folder / file
        if path.is_file() and QWEN3_RERANKER_WORDS in path.read_text(encoding="utf-8", errors="replace"):
            return f"its {file} has the words of that template"
    return ""
