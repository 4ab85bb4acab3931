"""The search graph on disk, so that a restart does not insert a large catalogue again.

The file is usearch's own format, then a trailer that names the owner of the vectors and proves that the file is whole.
The graph holds item keys and the vectors' codes, so its reader can compare each item with it (`NearestItems.put`): an
outdated entry costs an insert and never makes a result wrong. Knows no catalogue.
"""

from __future__ import annotations

import os
import zlib
from hashlib import blake2b
from pathlib import Path

from usearch.index import Index

from encoders.errors import AfterclickError
from ranker.recall.nearest_items import new_graph

_MAGIC = b"afterclick graph 1\n"
_OWNER_BYTES, _SUM_BYTES = 32, 4
_TRAILER_BYTES = len(_MAGIC) + _OWNER_BYTES + _SUM_BYTES
_READ_BYTES = 1 << 20


class GraphFileError(AfterclickError):
    """The file cannot be used.

    Attributes
    ----------
    reason : str
        "damaged", or "outdated" if it holds the vectors of another model.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def write(graph: Index, path: Path, model: str) -> None:
    """Write the graph atomically: to a file beside `path`, which is then renamed. The graph must not change meanwhile.

    Parameters
    ----------
    graph : Index
    path : Path
    model : str
        What the vectors depend on, see `encoders.text.vector_store.identity`.

    Raises
    ------
    OSError, RuntimeError
        The disk is full, or not writable.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        graph.save(part)
        checksum = _checksum(part, part.stat().st_size)
        with part.open("ab") as file:
            file.write(_MAGIC + _owner(model, graph.ndim) + checksum)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def read(path: Path, dim: int, model: str) -> Index | None:
    """Read a graph; None if there is no file. Partial files that a killed process left are removed.

    Parameters
    ----------
    path : Path
    dim : int
        Length of a vector.
    model : str
        See `write`.

    Raises
    ------
    GraphFileError
        The file is damaged, or holds the vectors of another model.
    OSError
        The file cannot be read.
    """
    for part in path.parent.glob(f"{path.name}.*.part"):
        part.unlink(missing_ok=True)
    if not path.is_file():
        return None
    size = path.stat().st_size - _TRAILER_BYTES
    with path.open("rb") as file:
        file.seek(max(0, size))
        magic, owner, checksum = (file.read(length) for length in (len(_MAGIC), _OWNER_BYTES, _SUM_BYTES))
    if magic != _MAGIC:
        raise GraphFileError("damaged", f"{path}: got a file without our trailer, expected a whole graph")
    if owner != _owner(model, dim):
        raise GraphFileError("outdated", f"{path}: got the vectors of another model or version")
    if checksum != _checksum(path, size):
        raise GraphFileError("damaged", f"{path}: got a wrong checksum, expected the one in the trailer")
    graph = new_graph(dim)
    try:
        graph.load(path)
    except (RuntimeError, ValueError) as error:
        raise GraphFileError("damaged", f"{path}: got a graph that usearch cannot read ({error})") from error
    return graph


def _owner(model: str, dim: int) -> bytes:
    empty = new_graph(dim)
    parameters = (model, dim, str(empty.dtype), empty.connectivity, empty.expansion_add)
    return blake2b(repr(parameters).encode(), digest_size=_OWNER_BYTES).digest()


def _checksum(path: Path, size: int) -> bytes:
    checksum = 0
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, _READ_BYTES))):
            checksum = zlib.crc32(block, checksum)
            size -= len(block)
    return checksum.to_bytes(_SUM_BYTES, "little")
