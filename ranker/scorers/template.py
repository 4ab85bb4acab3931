"""The words around context and candidate that a language model was trained with, and a decoder's two answers.

A model brings its own in `afterclick.json` beside its `config.json`. Without that file a decoder must be recognisable
as Qwen3-Reranker, whose words are then used: another model answers at random when it is asked in them.

`afterclick.json` is an object with these strings, each optional and each with Qwen3-Reranker's as its
default:

- `prefix`, before the context: task and instruction, and the beginning-of-sequence token if the model wants
  one;
- `middle`, between context and candidate;
- `suffix`, after the candidate: the answer is the next token;
- `yes` and `no`, a decoder's two answers: one token each;
- `template`, which can only be `Qwen3-Reranker`: the same as none of the others, and said.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.text.tokens import Row

FILE = "afterclick.json"
OTHERS = ("base", "fusion", "packed", "template", "trained")
"""Keys of that file which are no part of a template's text: `ranker.load` reads them, and whoever asks where a model
comes from."""
NAMED = "Qwen3-Reranker"
QWEN3_RERANKER = re.compile(r"qwen3[-_]?reranker", re.IGNORECASE)
AROUND = ("prefix", "middle", "suffix")
TEXTS = (*AROUND, "yes", "no")


@dataclass(frozen=True)
class Template:
    """Qwen3-Reranker's prompt (https://huggingface.co/Qwen/Qwen3-Reranker-0.6B), its instruction our task."""

    prefix: str = (
        "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the "
        'Instruct provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n'
        "<Instruct>: Given what a user did, oldest first, judge whether the user will choose the item next\n"
        "<Query>: "
    )
    middle: str = "\n<Document>: "
    suffix: str = "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    yes: str = "yes"
    no: str = "no"


@dataclass(frozen=True)
class Around:
    """A template's parts as token ids, around context and candidate.

    Each part is tokenised apart, so that a boundary never moves. A space that ends `prefix` or `middle` is
    put before the text that follows instead (`context_lead`, `candidate_lead`), for vocabularies hold words
    with their space.
    """

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    context_lead: str
    candidate_lead: str

    @property
    def markers(self) -> set[int]:
        """All ids in it."""
        return {*self.prefix, *self.middle, *self.suffix}

    @property
    def tokens(self) -> int:
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def row(self, context: Sequence[int], candidate: Sequence[int]) -> Row:
        """Put it around the ids of two texts, as `Frame.row` does with special tokens."""
        ids = [*self.prefix, *context, *self.middle, *candidate, *self.suffix]
        return Row(ids, [0] * len(ids))


@dataclass(frozen=True)
class TemplateTokens(Around):
    """A decoder's template, with its two answers."""

    yes: int
    no: int


def read(folder: Path, tokenizer: Any, name: str = "", in_training: bool = False) -> TemplateTokens:
    """Read the template of the decoder in `folder` and tokenise it.

    Parameters
    ----------
    name : the model as it was named.
    in_training : a decoder that says nothing of a template gets Qwen3-Reranker's, and learns it.

    Raises
    ------
    ModelUnsupported
        `afterclick.json` has an unknown key, a value that is not a string, an empty prefix, middle or suffix,
        or an answer that is not one token; or there is none and the model is not recognisable as Qwen3-Reranker.
    """
    given = texts(folder)
    if given is None and not in_training and not _is_qwen3_reranker(name, folder):
        raise model_source.ModelUnsupported(
            f"model: got {name or str(folder)!r}, a decoder that does not say in which words it was trained to rank, "
            f'expected Qwen3-Reranker or an {FILE} beside its config.json: {{"template": "{NAMED}"}} if it was trained '
            f"with those words, or its own ({', '.join(TEXTS)}); a chat model that was not trained to rank is no "
            "reranker: train it with `afterclick train --base`"
        )
    if "<|im_start|>" not in tokenizer.get_vocab() and "prefix" not in (given or {}):
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: got no prefix, and the model does not know Qwen3-Reranker's template "
            f"(<|im_start|>); write one with {', '.join(TEXTS)}"
        )
    template = Template(**(given or {}))
    answers = {which: _ids(getattr(template, which), tokenizer) for which in ("yes", "no")}
    for which, ids in answers.items():
        if len(ids) != 1 or answers["yes"] == answers["no"]:
            raise model_source.ModelUnsupported(
                f"{folder / FILE}: {which}: got {getattr(template, which)!r}, which is {len(ids)} tokens of this "
                "model, expected one token, and another for yes than for no; choose other words"
            )
    return TemplateTokens(**_around(template, tokenizer), yes=answers["yes"][0], no=answers["no"][0])


def read_for_classifier(folder: Path, tokenizer: Any) -> Around | None:
    """The words that a classifier's `afterclick.json` puts around its texts; None if it says nothing of any."""
    given = texts(folder, "relevant")
    described = model_source.read_json(folder, FILE, dict) or {}
    if given is None or not ({*AROUND, "template"} & set(described)):
        return None
    return Around(**_around(Template(**given), tokenizer))


def keep(source: Path, folder: Path) -> None:
    """Say in the folder of a decoder that was made of another's which template it has."""
    if not (folder / FILE).is_file():
        described = model_source.read_json(source, FILE, dict)
        (folder / FILE).write_text(
            json.dumps({"template": NAMED} if described is None else described), encoding="utf-8"
        )


def texts(folder: Path, *others: str) -> dict[str, str] | None:
    """What `afterclick.json` says of the template's texts; None without the file. `others`: more keys that it may have.

    Raises
    ------
    ModelUnsupported
    """
    path = folder / FILE
    given = model_source.read_json(folder, FILE, dict)
    if given is None:
        return None
    if given.get("template", NAMED) != NAMED:
        raise model_source.ModelUnsupported(
            f"{path}: template: got {given['template']!r}, expected {NAMED!r}; or give {', '.join(TEXTS)}"
        )
    found = {name: value for name, value in given.items() if name not in {*OTHERS, *others}}
    for name, value in found.items():
        if name not in TEXTS:
            raise model_source.ModelUnsupported(f"{path}: got the key {name!r}, expected {', '.join(TEXTS)}; remove it")
        if not isinstance(value, str) or not value.strip(" "):
            raise model_source.ModelUnsupported(
                f"{path}: {name}: got {value!r}, expected a text; remove it for the default"
            )
    return found


def _around(template: Template, tokenizer: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {name: _ids(getattr(template, name), tokenizer) for name in AROUND}
    leads = {"context_lead": _spaces_after(template.prefix), "candidate_lead": _spaces_after(template.middle)}
    return parts | leads


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text.rstrip(" "), add_special_tokens=False)["input_ids"])


def _is_qwen3_reranker(name: str, folder: Path) -> bool:
    """By its own name, wherever its folder is: a hub's name, the folder's, or of the hub's cache."""
    config = model_source.read_json(folder, "config.json", dict) or {}
    real = folder.resolve()
    cached = real.parent.parent.name if real.parent.name == "snapshots" else ""
    names = (Path(name).name, real.name, cached, str(config.get("_name_or_path", "")))
    return any(QWEN3_RERANKER.search(one) for one in names)


def _spaces_after(text: str) -> str:
    return " " * (len(text) - len(text.rstrip(" ")))
