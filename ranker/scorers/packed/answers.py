"""From a decoder's hidden states to a score: its answer to a question, or the likelihood of the candidate's words.

Only the rows of the LM head that a score needs are computed: two for the answers yes and no, and all of them for a
likelihood, but only at the tokens of the candidates and `CHUNK_BYTES` at a time. Knows no prompt and no packing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch.utils.checkpoint import checkpoint

CHUNK_BYTES = 64 * 2**20
"""Of logits in memory at once, in float32; chosen by us: 64 tokens of a vocabulary of 262,144."""


@dataclass(frozen=True)
class SequenceRows:
    """The inputs of one forward pass, and the rows of the candidates in it.

    Attributes
    ----------
    inputs : dict
        What the model's forward takes, as tensors.
    starts : list of int
        The position of each row's first token.
    rows : list of list of int
        The token ids of each row.
    """

    inputs: dict[str, Any]
    starts: list[int]
    rows: list[list[int]]


class RowScore(Protocol):
    """How a row of tokens becomes a score.

    Attributes
    ----------
    shared_of_middle : int or None
        End of the part of the template's middle that belongs to the context, as in a slice; the rest of it begins each
        row.
    unread : int
        Number of tokens at the end of a row that the model does not read.
    """

    shared_of_middle: int | None
    unread: int

    def plain(self, logits: torch.Tensor, row: Sequence[int]) -> torch.Tensor:
        """The score of one row by the whole model's logits at its tokens, (len(row), vocabulary)."""
        ...

    def scores(self, model: Any, sequence: SequenceRows) -> torch.Tensor:
        """Scores of the rows, (rows,) float32."""
        ...


class YesNoHead(torch.nn.Module):
    """The rows of an LM head that belong to the two answers, in float32.

    bfloat16 logits near 20 are 0.125 apart, so candidates would tie.

    Parameters
    ----------
    head : torch.nn.Linear
        The whole LM head.
    answers : list of int
        Token ids of yes and of no.
    """

    def __init__(self, head: torch.nn.Linear, answers: list[int]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(head.weight[answers].float(), requires_grad=False)
        self.bias = None if head.bias is None else torch.nn.Parameter(head.bias[answers].float(), requires_grad=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """Return logits, float32, (..., len(answers)), of hidden states (..., hidden)."""
        return torch.nn.functional.linear(hidden.float(), self.weight, self.bias)


class YesNo:
    """Log-odds of yes over no, after a row: `logit(yes) - logit(no)`.

    Parameters
    ----------
    yes, no : int
        Token ids.
    """

    shared_of_middle: int | None = None
    unread = 0

    def __init__(self, yes: int, no: int) -> None:
        self.ids = [yes, no]

    def plain(self, logits: torch.Tensor, row: Sequence[int]) -> torch.Tensor:
        """See `RowScore.plain`."""
        yes, no = logits[-1, self.ids].float().unbind()
        return yes - no

    def scores(self, model: Any, sequence: SequenceRows) -> torch.Tensor:
        """See `RowScore.scores`; the model's LM head is a `YesNoHead`, so that it scales or caps the logits itself."""
        last = [start + len(row) - 1 for start, row in zip(sequence.starts, sequence.rows, strict=True)]
        kept = torch.tensor(last, device=sequence.inputs["input_ids"].device)
        logits = model(**sequence.inputs, logits_to_keep=kept, use_cache=False).logits[0]
        log_odds: torch.Tensor = logits[:, 0] - logits[:, 1]
        return log_odds


class Likelihood:
    """Mean log-likelihood, in nats per token, of a row after its first token, which the context ends with."""

    shared_of_middle: int | None = -1
    unread = 1

    def plain(self, logits: torch.Tensor, row: Sequence[int]) -> torch.Tensor:
        """See `RowScore.plain`."""
        targets = torch.tensor(row[1:], device=logits.device)
        return logits[:-1].float().log_softmax(-1).gather(1, targets[:, None]).mean()

    def scores(self, model: Any, sequence: SequenceRows) -> torch.Tensor:
        """See `RowScore.scores`."""
        hidden = model.get_decoder()(**sequence.inputs, use_cache=False).last_hidden_state[0]
        device = hidden.device
        counts = [len(row) - 1 for row in sequence.rows]
        kept = [start + offset for start, count in zip(sequence.starts, counts, strict=True) for offset in range(count)]
        targets = torch.tensor([token for row in sequence.rows for token in row[1:]], device=device)
        each = _log_likelihoods(model, hidden[torch.tensor(kept, device=device)], targets)
        of_row = torch.repeat_interleave(torch.tensor(counts, device=device))
        total = torch.zeros(len(counts), device=device).index_add(0, of_row, each)
        return total / torch.tensor(counts, device=device)


def _log_likelihoods(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-likelihood of each token, (n,) float32, by the hidden state before it, (n, hidden)."""
    head = model.get_output_embeddings()
    cap = getattr(model.config.get_text_config(), "final_logit_softcapping", None)

    def of_chunk(states: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
        logits = head(states).float()
        if cap is not None:
            logits = torch.tanh(logits / cap) * cap
        found: torch.Tensor = logits.gather(1, tokens[:, None])[:, 0] - logits.logsumexp(1)
        return found

    step = max(1, CHUNK_BYTES // (4 * model.get_input_embeddings().num_embeddings))
    parts = [(hidden[at : at + step], targets[at : at + step]) for at in range(0, len(targets), step)]
    if torch.is_grad_enabled():  # logits of all chunks would stay in memory for their gradients
        return torch.cat([checkpoint(of_chunk, *part, use_reentrant=False) for part in parts])
    return torch.cat([of_chunk(*part) for part in parts])
