"""The words for a decoder that does not say in which words it was trained to rank.

A chat model is asked a question in the form of its own chat template. A base model, which was trained to continue texts
and not to answer, has the candidate as the continuation of the history, or a question in plain text. Knows no file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

TASK = "Given what a user of a shop did, oldest first, judge whether the user will choose the item next."
CHAT_QUESTION = (
    f'{TASK} Note that the answer can only be "yes" or "no".\nThe user:\n{{context}}\nThe item: {{candidate}}'
)
HISTORY, END_OF_LINE = "What a user of a shop did, oldest first:\n", "\n"
CONTINUATION = "\nThe item that the user chose next: "
"""Chosen by us on the known pairs: Gemma 3 270M ranks eight of eight right, and seven after a line's own 'Bought '."""
NO_ANSWERS = {"yes": "", "no": ""}
CONTEXT, CANDIDATE = "\u2402context\u2403", "\u2402candidate\u2403"
"""Stand for the two texts while a chat template is rendered: no template contains them."""
FIXED = {"enable_thinking": False, "date_string": "01 Jan 2025"}
"""What chat templates read beside the messages: an answer without thinking, and a date that does not change daily."""
CHAT_ANSWERS = (("yes", "no"), ("Yes", "No"), (" yes", " no"), (" Yes", " No"))
PLAIN_ANSWERS = ((" yes", " no"), (" Yes", " No"), ("yes", "no"), ("Yes", "No"))
"""Yes and no, in the order of preference: after a space as a text continues, without one as an answer begins."""


def in_chat(tokenizer: Any) -> dict[str, str] | None:
    """Return the texts of a template in the form of the tokeniser's chat template; None if none can be used.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    """
    if not tokenizer.chat_template:
        return None
    messages = [{"role": "user", "content": CHAT_QUESTION.format(context=CONTEXT, candidate=CANDIDATE)}]
    try:
        prompt = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **FIXED))
    except Exception:  # noqa: BLE001  a chat template is a program of the model's: it may raise anything
        return None
    prefix, _, rest = prompt.partition(CONTEXT)
    middle, _, suffix = rest.partition(CANDIDATE)
    if not (prefix.strip(" ") and middle.strip(" ") and suffix.strip(" ")) or CANDIDATE in suffix:
        return None
    return {"prefix": prefix, "middle": middle, "suffix": suffix} | _answers(tokenizer, CHAT_ANSWERS)


def plain(tokenizer: Any) -> dict[str, str]:
    """Return the texts of a question to a base model: a text that the answer continues.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    """
    return {
        "prefix": f"{_beginning(tokenizer)}{TASK}\nThe user:\n",
        "middle": "\nThe item: ",
        "suffix": "\nWill the user choose it? Answer:",
    } | _answers(tokenizer, PLAIN_ANSWERS)


def continued(tokenizer: Any) -> dict[str, str]:
    """Return the texts of a template whose candidate continues the history, without answers.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    """
    return {"prefix": f"{_beginning(tokenizer)}{HISTORY}", "middle": CONTINUATION, "suffix": END_OF_LINE, **NO_ANSWERS}


def _beginning(tokenizer: Any) -> str:
    """The token that the model's texts begin with; '' if it has none.

    Some tokenisers do not write it by themselves although their models were trained with it, and rank worse without.
    """
    return str(tokenizer.bos_token or "")


def _answers(tokenizer: Any, pairs: Sequence[tuple[str, str]]) -> dict[str, str]:
    """The first pair whose words are one token each; the first of all if there is none."""

    def is_one_token(word: str) -> bool:
        return len(tokenizer(word, add_special_tokens=False)["input_ids"]) == 1

    yes, no = next((pair for pair in pairs if all(map(is_one_token, pair))), pairs[0])
    return {"yes": yes, "no": no}
