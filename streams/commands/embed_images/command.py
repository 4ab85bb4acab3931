"""`afterclick embed-images`: read the pictures of items, encode them, and write the items with the vectors.

A picture that cannot be read costs its item nothing but the vector: the failure is counted and listed.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import typer
from PIL import Image

from encoders.images.encoder import ImageEncoder
from encoders.images.pictures import PictureUnreadable, picture
from encoders.interest import Vector
from streams.commands.embed_images.picture_files import PictureBounds, PictureReader, PictureUnavailable
from streams.contracts import Item, SpaceName
from streams.datasets.file_messages import FileMessages
from streams.datasets.messages import InputError
from streams.receive.embeddings import packed
from streams.receive.message import Tombstone
from streams.terminal.progress_bar import progress_bar
from streams.terminal.report import Field, Report, show

AT_ONCE = 16
"""Pictures that are fetched at the same time, and then encoded together."""
_encode = msgspec.json.Encoder().encode


@dataclass
class ImageAccount:
    """What became of the items.

    Attributes
    ----------
    outcomes : Counter
        `embedded`, `had a vector`, `no image`, and the reasons of failures.
    failures : list of (str, str, str)
        The item's id, its image, and what is wrong.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[str, str, str]] = field(default_factory=list)

    def fail(self, item: Item, reason: str, error: Exception) -> None:
        """Count and list an item whose picture cannot be read."""
        self.outcomes[f"failed: {reason}"] += 1
        self.failures.append((item.item_id, item.image or "", str(error)))


class ImageEmbedder:
    """Gives items the vectors of their pictures.

    Parameters
    ----------
    encoder : ImageEncoder
    name : str
        Of the vectors, in `embeddings`.
    bounds : PictureBounds

    Attributes
    ----------
    account : ImageAccount
    """

    def __init__(self, encoder: ImageEncoder, name: str, bounds: PictureBounds) -> None:
        self.account = ImageAccount()
        self._encoder, self._name, self._bounds = encoder, name, bounds

    def embedded(self, items: Iterable[Item]) -> Iterator[Item]:
        """Yield all items in their order, those with a picture that can be read with its vector."""
        with closing(PictureReader(self._bounds)) as reader, ThreadPoolExecutor(AT_ONCE, "picture") as threads:
            self._reader = reader
            batch: list[Item] = []
            for item in items:
                batch.append(item)
                if len(batch) == AT_ONCE:
                    yield from self._batch(batch, threads)
                    batch = []
            yield from self._batch(batch, threads)

    def _batch(self, items: list[Item], threads: ThreadPoolExecutor) -> Iterator[Item]:
        pictures = dict(zip(map(id, items), threads.map(self._picture, items), strict=True))
        read = [found for item in items if isinstance(found := pictures[id(item)], Image.Image)]
        vectors = iter(self._encoder.encode(read) if read else ())
        for item in items:
            found = pictures[id(item)]
            if isinstance(found, Image.Image):
                self.account.outcomes["embedded"] += 1
                yield self._with(item, next(vectors))
                continue
            if isinstance(found, PictureUnavailable | PictureUnreadable):
                self.account.fail(item, getattr(found, "reason", "no picture"), found)
            else:
                self.account.outcomes[found] += 1
            yield item

    def _picture(self, item: Item) -> Image.Image | PictureUnavailable | PictureUnreadable | str:
        """The item's picture, why it cannot be read, or why it need not."""
        if item.embeddings.get(self._name) is not None:
            return "had a vector"
        if not item.image:
            return "no image"
        try:
            return picture(self._reader.read(item.image))
        except (PictureUnavailable, PictureUnreadable) as error:
            return error

    def _with(self, item: Item, vector: Vector) -> Item:
        return packed(msgspec.structs.replace(item, embeddings={**item.embeddings, self._name: vector.tolist()}))


def check_name(name: str) -> None:
    """Make sure that the contract has vectors of this name.

    Raises
    ------
    InputError
    """
    try:
        msgspec.convert(name, SpaceName)
    except msgspec.ValidationError as error:
        raise InputError(f"--name: got {name!r}, expected 1 to 32 of a-z, 0-9 and _, a letter first") from error


def run(files: FileMessages, embedder: ImageEmbedder, out: Path, to_json: bool) -> None:
    """Write the items of files, each in its latest version, as JSON lines, and print the counts and the failures.

    Raises
    ------
    typer.Exit
        1: there were pictures, and none could be read.
    """
    with progress_bar(quiet=to_json) as stage:
        progress = stage("Embedding pictures")
        items: dict[str, Item] = {}
        for made in files.checked():
            if isinstance(made.message, Item):
                items[made.message.item_id] = made.message
            elif isinstance(made.message, Tombstone):
                items.pop(made.message.key, None)
        with out.open("wb") as file:
            for done, item in enumerate(embedder.embedded(items.values())):
                file.write(_encode(item) + b"\n")
                progress(done, len(items))
    account = embedder.account
    if to_json:
        report = {"items": len(items), "outcomes": account.outcomes, "failures": account.failures}
        sys.stdout.write(json.dumps(report | {"left_out": files.account.left_out}) + "\n")
    else:
        table = Report((Field("items"), Field("count", number=True)), str(out))
        for outcome, count in (*account.outcomes.items(), *files.account.left_out.items()):
            table.add(outcome, f"{count:,}")
        show(table)
        for item_id, image, error in account.failures:
            sys.stderr.write(f"afterclick: {item_id}: {image}: {error}\n")
    if account.failures and not account.outcomes["embedded"] + account.outcomes["had a vector"]:
        raise typer.Exit(1)
