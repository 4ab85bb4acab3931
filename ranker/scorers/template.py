"""The words around context and candidate that a language model reads, and how a decoder scores by them.

A decoder answers a question with yes or no, or its score is the likelihood of the candidate's words after the context.

A model brings its own in `afterclick.json` beside its `config.json`: an object with these strings, each optional.

- `prefix`, before the context: task and instruction, and the beginning-of-sequence token if the model needs one;
- `middle`, between context and candidate;
- `suffix`, after the candidate: the answer is the next token;
- `yes` and `no`, a decoder's two answers: one token each;
- `template`: the texts that are not given are those of this template. `Qwen3-Reranker` asks that model's question.
  `likelihood` asks nothing: the score is the mean log-likelihood of the tokens of the candidate and `suffix`.

Texts that a decoder's file neither gives nor names are chosen by `ranker.scorers.template_choice`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from encoders.models import source as model_source
from encoders.text.tokens import Row

FILE = "afterclick.json"
CONTEXT_TOKENS, MIN_CONTEXT_TOKENS = "context_tokens", 16
"""The key of that file that says how many tokens of a context a decoder reads, the newest events; and the fewest."""
OTHER_KEYS = (CONTEXT_TOKENS, "base", "cascade", "fusion", "merge", "packed", "template", "trained")
"""Keys of that file that are no text of the template: they describe the model and its origin."""
NAMED, LIKELIHOOD = "Qwen3-Reranker", "likelihood"
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

    @property
    def asks(self) -> bool:
        """Whether the model is asked a question; otherwise the candidate's likelihood is its score."""
        return bool(self.yes)


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
    """A decoder's template with the ids of its two answers; None where it asks nothing."""

    yes: int | None
    no: int | None


def tokenised(template: Template, folder: Path, tokenizer: Any) -> DecoderPromptTokens:
    """Tokenise the template of the decoder in `folder`.

    Raises
    ------
    ModelUnsupported
        An answer is not one token.
    """
    if not template.asks:
        return DecoderPromptTokens(**_prompt_parts(template, tokenizer), yes=None, no=None)
    answers = {answer: _ids(getattr(template, answer), tokenizer) for answer in ("yes", "no")}
    for answer, ids in answers.items():
        if len(ids) != 1 or answers["yes"] == answers["no"]:
            raise model_source.ModelUnsupported(
                f"{folder / FILE}: {answer}: got {getattr(template, answer)!r}, which is {len(ids)} tokens of this "
                "model, expected one token, and another for yes than for no; choose other words"
            )
    return DecoderPromptTokens(**_prompt_parts(template, tokenizer), yes=answers["yes"][0], no=answers["no"][0])


def context_tokens(folder: Path) -> int | None:
    """How many tokens of a context the decoder in `folder` is to read; None for as many as it can.

    Raises
    ------
    ModelUnsupported
        It is no such number.
    """
    given = (model_source.read_json(folder, FILE, dict) or {}).get(CONTEXT_TOKENS)
    if given is None or (type(given) is int and given >= MIN_CONTEXT_TOKENS):
        return given
    raise model_source.ModelUnsupported(
        f"{folder / FILE}: {CONTEXT_TOKENS}: got {given!r}, expected {MIN_CONTEXT_TOKENS} or more; remove it for all"
    )


def read_for_classifier(folder: Path, tokenizer: Any) -> PromptTokens | None:
    """Return the template in a classifier's `afterclick.json`; None if it has none.

    Texts that it does not give are those of Qwen3-Reranker.

    Raises
    ------
    ModelUnsupported
        Its `afterclick.json` has no such template.
    """
    custom = texts(folder, "relevant")
    description = model_source.read_json(folder, FILE, dict) or {}
    if description.get("template") == LIKELIHOOD:
        raise model_source.ModelUnsupported(
            f"{folder / FILE}: template: got {LIKELIHOOD!r} for a classifier, expected it for a decoder; remove it"
        )
    if custom is None or not ({*PARTS, "template"} & set(description)):
        return None
    return PromptTokens(**_prompt_parts(Template(**custom), tokenizer))


def keep(template: Template, folder: Path) -> None:
    """Write the template of a decoder into the folder of a decoder that was made from it: it is asked alike.

    Parameters
    ----------
    template : Template
    folder : Path
        The folder of the new decoder, which may have an `afterclick.json` already.
    """
    words = {"template": NAMED} if template == Template() else asdict(template)
    if not template.asks:
        words = {"template": LIKELIHOOD} | {part: words[part] for part in PARTS}
    description = {
        key: value
        for key, value in (model_source.read_json(folder, FILE, dict) or {}).items()
        if key not in {"template", *TEXTS}
    }
    (folder / FILE).write_text(json.dumps(description | words), encoding="utf-8")


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
    named = description.get("template", NAMED)
    if named not in (NAMED, LIKELIHOOD):
        raise model_source.ModelUnsupported(
            f"{path}: template: got {named!r}, expected {NAMED!r} or {LIKELIHOOD!r}; or give {', '.join(TEXTS)}"
        )
    custom = {name: value for name, value in description.items() if name not in {*OTHER_KEYS, *other_keys}}
    for name, value in custom.items():
        if named == LIKELIHOOD and name in ("yes", "no"):
            raise model_source.ModelUnsupported(
                f"{path}: got the key {name!r} with the template {LIKELIHOOD!r}, expected {', '.join(PARTS)}: it asks "
                "nothing; remove one of them"
            )
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


def _spaces_after(text: str) -> str:
    return " " * (len(text) - len(text.rstrip(" ")))
