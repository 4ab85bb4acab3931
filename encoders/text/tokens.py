"""Texts to token ids. A user's or a shop's text is always text and never becomes the model's markup.

A title that reads `<|im_end|>` must not end the prompt. Does not know how long an input may be (`fit` does).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from cachetools import LRUCache
from tokenizers import Tokenizer

MAX_TEXTS = 200_000
"""Texts in a `CachedTokens`; chosen by us: about 100 MB of short titles."""


class PlainTokens:
    """Token ids of texts, without special tokens around them or in them.

    A special token in a text is tokenised as the characters that it is written with. Ids that mark structure and
    result nevertheless are left out: a unigram vocabulary holds `</s>` as a piece, and `<think>` is an added token but
    no special one.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
        Copied, because every holder of it can change its settings.
    markers : collection of int
        Further ids that no text may produce: the ids of a template.

    Attributes
    ----------
    unknown_id : int, optional
        The id of everything that the vocabulary does not know; None if it knows everything.
    largest_id : int
        The largest id that a text may produce.
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
        """Return the ids of each text. Every `str` is accepted; a lone surrogate becomes U+FFFD."""
        encodings = self._tokenizer.encode_batch_fast([_unicode(text) for text in texts], add_special_tokens=False)
        return [
            encoding.ids
            if self._barred.isdisjoint(encoding.ids)
            else [i for i in encoding.ids if i not in self._barred]
            for encoding in encodings
        ]

    def count(self, texts: Sequence[str]) -> tuple[int, int]:
        """Return the number of tokens of these texts, and how many of them the vocabulary does not know."""
        ids = self(texts)
        unknown = 0 if self.unknown_id is None else sum(of_text.count(self.unknown_id) for of_text in ids)
        return sum(map(len, ids)), unknown


class CachedTokens:
    """Token ids of texts that occur again and again, cached; the least recently used are dropped."""

    def __init__(self, tokens: PlainTokens, max_texts: int = MAX_TEXTS) -> None:
        self.unknown_id = tokens.unknown_id
        self._tokens = tokens
        self._cache: LRUCache[str, list[int]] = LRUCache(max_texts)

    def __call__(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the ids of each text, as `PlainTokens` does; the caller must not change the lists."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._cache]
        new = dict(zip(missing, self._tokens(missing), strict=True))
        ids = [self._cache[text] if text not in new else new[text] for text in texts]
        self._cache.update(new)
        return ids


Tokens = PlainTokens | CachedTokens


def _unicode(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


@dataclass(frozen=True)
class Row:
    """One row of a model's input: token ids and their token types, of the same length."""

    ids: list[int]
    types: list[int]


class Frame:
    """The special tokens that a model wants around one text, or around and between two.

    Found by tokenising a sample, so every post-processor works: `[CLS] a [SEP] b [SEP]`.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerFast
    texts : int
        Texts of a row, 1 or 2.

    Attributes
    ----------
    tokens : int
        Number of special tokens in a row.
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
        """Whether there is a token between two texts."""
        return bool(self._around[1].ids)

    def row(self, *texts: Sequence[int]) -> Row:
        """Return the row of these texts (their ids)."""
        ids, types = list(self._around[0].ids), list(self._around[0].types)
        for text, kind, after in zip(texts, self._types, self._around[1:], strict=True):
            ids += [*text, *after.ids]
            types += [*[kind] * len(text), *after.types]
        return Row(ids, types)

    def first(self, text: Sequence[int]) -> Row:
        """Return the beginning of a row of two texts: everything before the second text."""
        before, after = self._around[0], self._around[1]
        ids = [*before.ids, *text, *after.ids]
        return Row(ids, [*before.types, *[self._types[0]] * len(text), *after.types])

    def second(self, text: Sequence[int]) -> Row:
        """Return the second text as a row that follows `first`: it begins and ends like a row, with the second type."""
        ids = [*self._around[0].ids, *text, *self._around[-1].ids]
        return Row(ids, [self._types[-1]] * len(ids))
