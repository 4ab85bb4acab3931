"""Lets a causal language model answer prompts, one line each: any `AutoModelForCausalLM` folder. Knows no reason."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from encoders.models import source as model_source
from encoders.models.device import choose
from encoders.text.fit import longest_input
from encoders.text.tokens import PlainTokens

MAX_INPUT_TOKENS = 4096
MAX_NEW_TOKENS = 96
"""Of an answer; chosen by us: three long names and a line of words."""
_SAMPLE = "prompt"
BATCH_PROMPTS = 8
"""Answered together; chosen by us: the prompts of a list or two, at little memory."""


class TextGenerator:
    """A causal language model that answers greedily, so the same prompt always gets the same answer.

    Parameters
    ----------
    model, device, dtype : str
        See `load_scorer`.

    Raises
    ------
    ModelNotFound, ModelUnsupported, DeviceUnavailable
    """

    def __init__(self, model: str, device: str = "auto", dtype: str = "auto") -> None:
        folder = model_source.fetch(model)
        self.placement = choose(device, dtype)
        self._tokenizer = model_source.load_tokenizer(model, folder)
        self._model = model_source.load_weights("AutoModelForCausalLM", model, folder, self.placement)
        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        self._tokens = PlainTokens(self._tokenizer)
        model_source.check_vocabulary(model, self._model, self._tokens)
        self._before, self._behind = self._around()
        around = len(self._before) + len(self._behind)
        self._room = longest_input(self._model, self._tokenizer, MAX_INPUT_TOKENS) - MAX_NEW_TOKENS - around

    def write(self, prompts: Sequence[str]) -> list[str]:
        """Return the first line of each answer; '' for a prompt that is too long for the model."""
        answers = [""] * len(prompts)
        ids = self._tokens(prompts)
        fitting = sorted((n for n, each in enumerate(ids) if len(each) <= self._room), key=lambda n: len(ids[n]))
        for begin in range(0, len(fitting), BATCH_PROMPTS):
            batch = fitting[begin : begin + BATCH_PROMPTS]
            for number, answer in zip(batch, self._answers([ids[n] for n in batch]), strict=True):
                answers[number] = answer
        return answers

    def _around(self) -> tuple[list[int], list[int]]:
        """The tokens before and behind a prompt: those of the model's chat template if it has one."""
        if not self._tokenizer.chat_template:
            begin = self._tokenizer.bos_token_id
            return ([begin] if self._tokenizer(_SAMPLE)["input_ids"][:1] == [begin] else []), []
        turns = [{"role": "user", "content": _SAMPLE}]
        with model_source.explain_errors(self._tokenizer.name_or_path):
            chat = self._tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        before, _, behind = chat.partition(_SAMPLE)
        return tuple(self._tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, behind))

    def _answers(self, batch: Sequence[list[int]]) -> list[str]:
        rows = [[*self._before, *ids, *self._behind] for ids in batch]
        inputs = self._tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(self._model.device)
        width = inputs["input_ids"].shape[1]

        def first_lines(ids: torch.Tensor) -> list[str]:
            texts = self._tokenizer.batch_decode(ids[:, width:], skip_special_tokens=True)
            return [text.lstrip() for text in texts]

        def is_line_full(ids: torch.Tensor, _: Any, **__: Any) -> torch.Tensor:
            full = ["\n" in text for text in first_lines(ids)]
            return torch.tensor(full, device=ids.device)

        with torch.inference_mode():
            output = self._model.generate(
                **inputs,
                max_new_tokens=MAX_NEW_TOKENS,
                do_sample=False,
                pad_token_id=self._tokenizer.pad_token_id,
                stopping_criteria=[is_line_full],
            )
        return [text.partition("\n")[0] for text in first_lines(output)]
