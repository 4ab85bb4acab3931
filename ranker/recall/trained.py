"""What a model's folder holds for the recall of candidates: the weights of the merge, and sources that were learnt.

The state tier and the offline pipeline use one `TrainedRecall`. A head was trained on the columns of its folder's
sources, so requests name the version of what computed their features, and a head reads no others. Knows no transport.

A further part is a class with the members of `LearntSource`, and its file in `PARTS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np

from encoders.interest import Vector
from encoders.models.source import ModelUnsupported
from ranker.knowledge.walk import Walk
from ranker.recall.adapted_text import AdaptedText
from ranker.recall.candidates import Proposals, Source
from ranker.recall.catalogue import Catalogue
from ranker.recall.embedding_space import FILES as embedding_space_files
from ranker.recall.embedding_space import embedding_space, name_of
from ranker.recall.fatigue import Fatigue
from ranker.recall.item_columns import ItemColumns
from ranker.recall.learnt_knowledge import LearntKnowledge
from ranker.recall.learnt_neighbours import LearntNeighbours
from ranker.recall.merge import FIXED, Merge
from ranker.recall.number_feature import FILES as number_feature_files
from ranker.recall.number_feature import number_feature, number_of
from ranker.recall.user_signs import UserSigns
from ranker.recall.user_view import UserView

DIGITS = 16
"""Of the version; chosen by us: enough for models that are never compared but with each other."""


class LearntSource(Protocol):
    """A source of candidates that was learnt from a shop's log, and what it says about each candidate in numbers.

    Attributes
    ----------
    file : str
        Its name in a model's folder.
    name : str
        See `Source`. The rank in the source's order is a feature, too; see `ranker.features.place`.
    columns : tuple of str
        Names of its features.
    """

    file: str
    name: str
    columns: ClassVar[tuple[str, ...]]

    @classmethod
    def read(cls, path: Path) -> LearntSource:
        """Read its file.

        Raises
        ------
        ModelUnsupported
            The file is damaged.
        """
        ...

    def save(self, path: Path) -> None:
        """Write what `read` reads."""
        ...

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """Compute what the source keeps of each item of the catalogue, now and from now on, in steps of milliseconds.

        Raises
        ------
        ModelUnsupported
            The source was learnt from other vectors than those of the catalogue.
        """
        ...

    def find(self, user: UserView, limit: int) -> Proposals:
        """See `Source`."""
        ...

    def features(self, user: UserView, items: ItemColumns) -> Vector:
        """Return one row of `columns` for each item, (n, len(columns)) float32; 0 where nothing is known."""
        ...


PARTS: dict[str, type[LearntSource]] = {
    part.file: part for part in (LearntNeighbours, AdaptedText, UserSigns, LearntKnowledge, Fatigue)
}
"""The sources that a folder may hold, by the name of the file. It may have others, one a vector or number of items."""
MERGE = "merge"
"""The entry of `afterclick.json` with the weights of the merge."""


@dataclass(frozen=True)
class TrainedRecall:
    """What the recall of a model's users uses beside the sources of the settings.

    Attributes
    ----------
    learnt : tuple of LearntSource
        In the order of `parts_of`.
    merge : Merge
    version : str
        Digest of the files of `learnt`, on which the features depend; empty for none.
    needs_features : bool
        Whether the model has a head that reads features.
    files : tuple
        The fingerprint of the folder before it was loaded, by which a newer one is noticed.
    """

    learnt: tuple[LearntSource, ...] = ()
    merge: Merge = FIXED
    version: str = ""
    needs_features: bool = False
    files: tuple[tuple[str, int, int], ...] = ()

    def sources(self, configured: Sequence[Source]) -> list[Source]:
        """The sources of the settings, then the learnt ones."""
        return [*configured, *self.learnt]

    def walk(self, user: UserView) -> Walk:
        """The user's walk through the knowledge graph: by the weights of the relations where they are learnt."""
        learnt = next((source for source in self.learnt if isinstance(source, LearntKnowledge)), None)
        return user.walk if learnt is None else user.walk_by(learnt.knowledge)

    def recalls_like(self, other: TrainedRecall) -> bool:
        """Whether it gives the same candidates and features as another one, beside the same sources."""
        return (self.version, self.merge) == (other.version, other.merge)

    def enter(self, catalogue: Catalogue) -> Iterator[None]:
        """Make the learnt sources ready for the items of a catalogue, see `LearntSource.enter`."""
        for source in self.learnt:
            yield from source.enter(catalogue)

    def without(self, name: str) -> TrainedRecall:
        """The same as if the learnt source of this name knew no item: a head reads its features, which are 0."""
        learnt = tuple(Ablated(source) if source.name == name else source for source in self.learnt)
        return replace(self, learnt=learnt)


class Ablated:
    """A learnt source that proposes nothing, and whose features say nothing; see `LearntSource`.

    Parameters
    ----------
    source : LearntSource
        Has its name and its columns.
    """

    columns: ClassVar[tuple[str, ...]] = ()

    def __init__(self, source: LearntSource) -> None:
        self.file, self.name = source.file, source.name
        self.columns = source.columns  # type: ignore[misc]  # of the instance: each stands for another source
        self._source = source

    @classmethod
    def read(cls, path: Path) -> LearntSource:
        """No file has one."""
        raise ModelUnsupported(f"{path}: got no file of a learnt source, expected one; train the model again")

    def save(self, path: Path) -> None:
        """Write the source itself."""
        self._source.save(path)

    def enter(self, _catalogue: Catalogue) -> Iterator[None]:
        """Keep nothing."""
        return iter(())

    def find(self, _user: UserView, _limit: int) -> Proposals:
        """Propose nothing."""
        return Proposals(np.empty(0, np.intp))

    def features(self, _user: UserView, items: ItemColumns) -> Vector:
        """Return zeros."""
        return np.zeros((len(items.keys), len(self.columns)), np.float32)


NOTHING = TrainedRecall()


def ready(trained: Sequence[TrainedRecall], catalogue: Catalogue) -> list[TrainedRecall]:
    """Return these, ready for the items of a catalogue that has few as yet; see `TrainedRecall.enter`."""
    for one in trained:
        for _ in one.enter(catalogue):
            pass
    return list(trained)


def load(folder: Path, description: Mapping[str, Any]) -> TrainedRecall:
    """Load the parts of a model's folder.

    Parameters
    ----------
    folder : Path
    description : mapping
        The content of its `afterclick.json`.

    Raises
    ------
    ModelUnsupported
        A part is damaged.
    """
    try:
        merge = Merge.read(description[MERGE]) if MERGE in description else FIXED
    except ValueError as error:
        raise ModelUnsupported(f"{folder / 'afterclick.json'}: merge: {error}; train the model again") from error
    learnt = tuple(part.read(file) for file, part in parts_of(folder).items())
    return TrainedRecall(learnt, merge, version_of(folder), "fusion" in description)


def parts_of(folder: Path) -> dict[Path, type[LearntSource]]:
    """The learnt sources that a folder holds, by their files, in the order of the features. Reads no file."""
    found = {folder / name: part for name, part in PARTS.items() if (folder / name).is_file()}
    spaces = {name_of(file.name): file for file in folder.glob(embedding_space_files)}
    numbers = {number_of(file.name): file for file in folder.glob(number_feature_files)}
    found |= {file: embedding_space(name) for name, file in sorted(spaces.items())}
    return found | {file: number_feature(name) for name, file in sorted(numbers.items())}


def version_of(folder: Path) -> str:
    """The version of a folder's learnt sources: the first digits of the SHA-256 of their files; empty for none."""
    digest, files = hashlib.sha256(), parts_of(folder)
    for file in files:
        digest.update(f"{file.name}\0".encode())
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:DIGITS] if files else ""
