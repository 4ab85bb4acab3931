"""The words around context and candidate that a decoder was trained with, and its two answers.

A model brings its own in `afterclick.json` beside its `config.json`; without it, Qwen3-Reranker's are used.
Knows no model; used by `packed_decoder`, in training too.

`afterclick.json` is an object with these strings, each optional and each with Qwen3-Reranker's as its
default:

- `prefix`, before the context: task and instruction, and the beginning-of-sequence token if the model wants
  one;
- `middle`, between context and candidate;
- `suffix`, after the candidate: the answer is the next token;
- `yes` and `no`, the two answers: one token each.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from encoders import model_source

FILE = "afterclick.json"
OTHERS = ("base", "fusion", "packed", "trained")
"""Keys of that file which others read: `ranker.load`, and whoever asks where a model comes from."""


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
class TemplateTokens:
    """A template as token ids.

    Each part is tokenised apart, so that a boundary never moves. A space that ends `prefix` or `middle` is
    put before the text that follows instead (`context_lead`, `candidate_lead`), for vocabularies hold words
    with their space.
    """

    prefix: list[int]
    middle: list[int]
    suffix: list[int]
    context_lead: str
    candidate_lead: str
    yes: int
    no: int


def read(folder: Path, tokenizer: Any) -> TemplateTokens:
    """Read the template of the model in `folder` and tokenise it.

    Raises
    ------
    ModelUnsupported
        `afterclick.json` has an unknown key, a value that is not a string, an empty prefix, middle or suffix,
        or an answer that is not one token; or there is none and the tokeniser does not know Qwen's
        `<|im_start|>`.
    """
    path = folder / FILE
    given = model_source.read_json(folder, FILE, dict)
    if given is not None:
        given = {name: value for name, value in given.items() if name not in OTHERS}
    names = [field.name for field in fields(Template)]
    if given is None and "<|im_start|>" not in tokenizer.get_vocab():
        raise model_source.ModelUnsupported(
            f"{path}: got no such file, and the model does not know Qwen3-Reranker's template "
            f"(<|im_start|>); write one with {', '.join(names)}"
        )
    for name, value in (given or {}).items():
        if name not in names:
            raise model_source.ModelUnsupported(f"{path}: got the key {name!r}, expected {', '.join(names)}; remove it")
        if not isinstance(value, str) or not value.strip(" "):
            raise model_source.ModelUnsupported(
                f"{path}: {name}: got {value!r}, expected a text; remove it for the default"
            )
    template = Template(**(given or {}))
    ids = {
        name: list(tokenizer(getattr(template, name).rstrip(" "), add_special_tokens=False)["input_ids"])
        for name in names
    }
    for name in ("yes", "no"):
        if len(ids[name]) != 1 or ids["yes"] == ids["no"]:
            raise model_source.ModelUnsupported(
                f"{path}: {name}: got {getattr(template, name)!r}, which is {len(ids[name])} tokens of this "
                "model, expected one token, and another for yes than for no; choose other words"
            )
    return TemplateTokens(
        prefix=ids["prefix"],
        middle=ids["middle"],
        suffix=ids["suffix"],
        context_lead=_spaces_after(template.prefix),
        candidate_lead=_spaces_after(template.middle),
        yes=ids["yes"][0],
        no=ids["no"][0],
    )


def _spaces_after(text: str) -> str:
    return " " * (len(text) - len(text.rstrip(" ")))
