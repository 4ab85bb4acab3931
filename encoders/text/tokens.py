"""Texts to token ids, such that what a user or a shop wrote is always text and never the model's markup.

A title that reads `<|im_end|>` must not end the prompt. Knows nothing of lengths (`fit`) and of what a model
does with the ids.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer

MOST_KEPT = 200_000
"""Texts of which `KeptTokens` keeps the ids; chosen by us: about 100 MB of short titles."""


class PlainTokens:
    """Token ids of texts, without special tokens around them or in them.

    Special tokens in a text are tokenised as the characters that they are. Ids that mark structure and still
    come out (a unigram vocabulary holds `</s>` as a piece; `<think>` is an added token but not a special one)
    are left out.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        Copied, for its settings can be changed by anyone who holds it.
    markers : collection of int
        Further ids that no text may produce: those that a template is built of.

    Attributes
    ----------
    unknown_id : what stands for what the vocabulary does not know; None if it knows everything.
    largest_id : of those that a text may become.
    """

    def __init__(self, tokenizer: Any, markers: Collection[int] = ()) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self._tokenizer.encode_special_tokens = True
        added = tokenizer.added_tokens_decoder
        special = {token for token, added_token in added.items() if added_token.special}
        barred = (special | set(tokenizer.all_special_ids)) - {tokenizer.unk_token_id}
        self._barred = frozenset(barred | (set(markers) & set(added)))
        self.unknown_id: int | None = tokenizer.unk_token_id
        self.largest_id = max(set(tokenizer.get_vocab().values()) - self._barred, default=0)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokenise each text apart. Any `str` will do: a lone surrogate becomes U+FFFD."""
        encodings = self._tokenizer.encode_batch_fast([_unicode(text) for text in texts], add_special_tokens=False)
        return [
            encoding.ids
            if self._barred.isdisjoint(encoding.ids)
            else [i for i in encoding.ids if i not in self._barred]
            for encoding in encodings
        ]


class KeptTokens:
    """Token ids of texts that come again and again, kept: the least recently used go."""

    def __init__(self, tokens: PlainTokens, most: int = MOST_KEPT) -> None:
        self.unknown_id = tokens.unknown_id
        self._tokens = tokens
        self._most = most
        self._kept: OrderedDict[str, list[int]] = OrderedDict()

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """As `PlainTokens` does; the lists are not to be changed."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._kept]
        new = dict(zip(missing, self._tokens(missing), strict=True))
        found = []
        for text in texts:
            ids = new.get(text)
            if ids is None:
                ids = self._kept[text]
                self._kept.move_to_end(text)
            found.append(ids)
        self._kept.update(new)
        while len(self._kept) > self._most:
            self._kept.popitem(last=False)
        return found


Tokens = PlainTokens | KeptTokens


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@dataclass(frozen=True)
class Row:
    """One row of a model's input: token ids and, as long, token types."""

    ids: list[int]
    types: list[int]


class Frame:
    """The special tokens that a model wants around one text, or around and between two.

    Read off what the tokeniser does with a sample, so any post-processor will do: `[CLS] a [SEP] b [SEP]`.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    texts : int
        1 or 2, the texts of a row.
    """

    def __init__(self, tokenizer: Any, texts: int) -> None:
        encoding = tokenizer(*["a"] * texts)[0]
        self._around: list[Row] = [Row([], []) for _ in range(texts + 1)]
        self._types = [0] * texts
        seen = 0
        for token, kind, owner in zip(encoding.ids, encoding.type_ids, encoding.sequence_ids, strict=True):
            if owner is None:
                self._around[seen].ids.append(token)
                self._around[seen].types.append(kind)
            else:
                seen = owner + 1
                self._types[owner] = kind
        self.tokens = sum(len(around.ids) for around in self._around)

    @property
    def separates(self) -> bool:
        """Whether a token comes between two texts."""
        return bool(self._around[1].ids)

    def row(self, *texts: Sequence[int]) -> Row:
        """Put the special tokens around the ids of the texts."""
        ids, types = list(self._around[0].ids), list(self._around[0].types)
        for text, kind, after in zip(texts, self._types, self._around[1:], strict=True):
            ids += [*text, *after.ids]
            types += [*[kind] * len(text), *after.types]
        return Row(ids, types)

    def first(self, text: Sequence[int]) -> Row:
        """The beginning of a row of two texts: all before the second."""
        before, after = self._around[0], self._around[1]
        ids = [*before.ids, *text, *after.ids]
        return Row(ids, [*before.types, *[self._types[0]] * len(text), *after.types])

    def second(self, text: Sequence[int]) -> Row:
        """The second text as a row that follows the first: begun like a row, ended like one, all of its own type."""
        ids = [*self._around[0].ids, *text, *self._around[-1].ids]
        return Row(ids, [self._types[-1]] * len(ids))
