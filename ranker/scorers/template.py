"""The prompt around context and candidate that a language model was trained with, and a decoder's two answers.

A model brings its own in `afterclick.json` beside its `config.json`. Without that file a decoder must be recognisable
as Qwen3-Reranker, whose template is then used: another model would answer at random to it.

`afterclick.json` is an object with these strings. Each is optional, and its default is Qwen3-Reranker's:

- `prefix`, before the context: task and instruction, and the beginning-of-sequence token if the model needs one;
- `middle`, between context and candidate;
- `suffix`, after the candidate: the answer is the next token;
- `yes` and `no`, a decoder's two answers: one token each;
- `template`, which can only be `Qwen3-Reranker`: it states explicitly that all defaults apply.
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
OTHER_KEYS = ("base", "fusion", "packed", "template", "trained")
"""Keys of that file that are no text of the template: they describe the model and its origin."""
NAMED = "Qwen3-Reranker"
QWEN3_RERANKER = re.compile(r"qwen3[-_]?reranker", re.IGNORECASE)
PARTS = ("prefix", "middle", "suffix")
TEXTS = (*PARTS, "yes", "no")


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
class PromptTokens:
    """A template's parts as token ids.

    Each part is tokenised apart, so that a boundary never moves. A space at the end of `prefix` or `middle` is moved to
    the beginning of the text that follows (`context_lead`, `candidate_lead`), because vocabularies hold words with the
    space before them.
    """

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    context_lead: str
    candidate_lead: str

    @property
    def markers(self) -> set[int]:
        """All ids of the parts."""
        return {*self.prefix, *self.middle, *self.suffix}

    @property
    def tokens(self) -> int:
        """Number of tokens of the parts."""
        return len(self.prefix) + len(self.middle) + len(self.suffix)

    def row(self, context: Sequence[int], candidate: Sequence[int]) -> Row:
        """Return the row of a context and a candidate (their ids), as `Frame.row` does with special tokens."""
        ids = [*self.prefix, *context, *self.middle, *candidate, *self.suffix]
        return Row(ids, [0] * len(ids))


@dataclass(frozen=True)
class DecoderPromptTokens(PromptTokens):
    """A decoder's template with the ids of its two answers."""

    yes: int
    no: int


def read(folder: Path, tokenizer: Any, name: str = "", in_training: bool = False) -> DecoderPromptTokens:
    """Read the template of the decoder in `folder` and tokenise it.

    Parameters
    ----------
    folder : Path
    tokenizer : transformers.PreTrainedTokenizerFast
    name : str
        The model as it was named.
    in_training : bool
        Whether a decoder without a template gets Qwen3-Reranker's, because it will be trained with it.

    Raises
    ------
    ModelUnsupported
        `afterclick.json` has an unknown key, a value that is not a string, an empty prefix, middle or suffix,
        or an answer that is not one token; or the file is missing and the model is not recognisable as Qwen3-Reranker.
    """
    custom = texts(folder)
    if custom is None and not in_training and not _is_qwen3_reranker(name, folder):
        raise model_source.ModelUnsupported(
            f"model: got {name or str(folder)!r}, a decoder that does not say in which words it was trained to rank, "
            f'expected Qwen3-Reranker or an {FILE} beside its config.json: {{"template": "{NAMED}"}} if it was trained '
            f"with those words, or its own ({', '.join(TEXTS)}); a chat model that was not trained to rank is no "
            "reranker: train it with `afterclick train --base`"
        )
    if "<|im_start|>" not in tokenizer.get_vocab() and "prefix" not in (custom or {}):
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: got no prefix, and the model does not know Qwen3-Reranker's template "
            f"(<|im_start|>); write one with {', '.join(TEXTS)}"
        )
    template = Template(**(custom or {}))
    answers = {answer: _ids(getattr(template, answer), tokenizer) for answer in ("yes", "no")}
    for answer, ids in answers.items():
        if len(ids) != 1 or answers["yes"] == answers["no"]:
            raise model_source.ModelUnsupported(
                f"{folder / FILE}: {answer}: got {getattr(template, answer)!r}, which is {len(ids)} tokens of this "
                "model, expected one token, and another for yes than for no; choose other words"
            )
    return DecoderPromptTokens(**_prompt_parts(template, tokenizer), yes=answers["yes"][0], no=answers["no"][0])


def read_for_classifier(folder: Path, tokenizer: Any) -> PromptTokens | None:
    """Return the template in a classifier's `afterclick.json`; None if it has none."""
    custom = texts(folder, "relevant")
    description = model_source.read_json(folder, FILE, dict) or {}
    if custom is None or not ({*PARTS, "template"} & set(description)):
        return None
    return PromptTokens(**_prompt_parts(Template(**custom), tokenizer))


def keep(source: Path, folder: Path) -> None:
    """Copy the template of the decoder in `source` into the folder of a decoder that was made from it."""
    if not (folder / FILE).is_file():
        description = model_source.read_json(source, FILE, dict)
        (folder / FILE).write_text(
            json.dumps({"template": NAMED} if description is None else description), encoding="utf-8"
        )


def texts(folder: Path, *other_keys: str) -> dict[str, str] | None:
    """Read the texts of the template in `afterclick.json`; None without the file.

    Parameters
    ----------
    folder : Path
    *other_keys : str
        Further keys that the file may have.

    Raises
    ------
    ModelUnsupported
        An unknown key, or a text that is empty or no string.
    """
    path = folder / FILE
    description = model_source.read_json(folder, FILE, dict)
    if description is None:
        return None
    if description.get("template", NAMED) != NAMED:
        raise model_source.ModelUnsupported(
            f"{path}: template: got {description['template']!r}, expected {NAMED!r}; or give {', '.join(TEXTS)}"
        )
    custom = {name: value for name, value in description.items() if name not in {*OTHER_KEYS, *other_keys}}
    for name, value in custom.items():
        if name not in TEXTS:
            raise model_source.ModelUnsupported(f"{path}: got the key {name!r}, expected {', '.join(TEXTS)}; remove it")
        if not isinstance(value, str) or not value.strip(" "):
            raise model_source.ModelUnsupported(
                f"{path}: {name}: got {value!r}, expected a text; remove it for the default"
            )
    return custom


def _prompt_parts(template: Template, tokenizer: Any) -> dict[str, Any]:
    parts: dict[str, Any] = {name: _ids(getattr(template, name), tokenizer) for name in PARTS}
    leads = {"context_lead": _spaces_after(template.prefix), "candidate_lead": _spaces_after(template.middle)}
    return parts | leads


def _ids(text: str, tokenizer: Any) -> list[int]:
    return list(tokenizer(text.rstrip(" "), add_special_tokens=False)["input_ids"])


def _is_qwen3_reranker(name: str, folder: Path) -> bool:
    """By its own name, wherever its folder is: the hub's name, the folder's, or the one in the hub's cache."""
    config = model_source.read_json(folder, "config.json", dict) or {}
    real = folder.resolve()
    cached = real.parent.parent.name if real.parent.name == "snapshots" else ""
    names = (Path(name).name, real.name, cached, str(config.get("_name_or_path", "")))
    return any(QWEN3_RERANKER.search(name) for name in names)


def _spaces_after(text: str) -> str:
    return " " * (len(text) - len(text.rstrip(" ")))
