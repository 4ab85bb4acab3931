"""Texts' vectors on disk, so that a restart does not encode the catalogue again.

A wrapper around an encoder: vectors that were encoded before are read from an SQLite file, the others are encoded and
written there. A damaged file is replaced by a new one; where none can be written, the encoder works without it. Knows
no item and no catalogue. For one thread at a time.
"""

from __future__ import annotations

import logging
import sqlite3
import zlib
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from encoders.interest import Vector
from encoders.models import source as model_source

logger = logging.getLogger(__name__)

FILE = "item-vectors.sqlite"
"""Its name in a worker's folder. Several encoders, and several processes, may share a file."""
Stored = dict[bytes, npt.NDArray[np.float16]]
RECIPE = 3
"""Changes with the processing of a text before it is encoded; 1 was without prompts, 2 without those of E5 folders."""
UNUSED_LOADS = 20
"""A vector that this many processes in a row did not use is dropped; chosen by us: disk space is cheap."""
_RECORD_USE_AFTER = 5
"""Loads after which a use is recorded again; recording every use would rewrite the file at each start."""
_KEYS_PER_QUERY = 500
"""Old versions of SQLite allow 999."""
_TABLES = """
PRAGMA journal_mode = WAL;
PRAGMA synchronous = NORMAL;
CREATE TABLE IF NOT EXISTS loads (id INTEGER PRIMARY KEY AUTOINCREMENT);
CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, value BLOB NOT NULL, used INTEGER NOT NULL);
"""


class Encoder(Protocol):
    """Turns texts into vectors.

    Attributes
    ----------
    dim : int
        Length of a vector.
    """

    dim: int

    def encode(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of these texts, (n, dim) float32, unit length, in the order of the texts.

        A vector depends on its text alone. No texts give no rows.
        """
        ...

    def encode_events(self, texts: Sequence[str]) -> Vector:
        """Return the vectors of what users say or do: as `encode`, but as the model reads a query."""
        ...


class StoredEncoder:
    """An encoder that stores its vectors. All vectors are rounded to float16, so a restart changes none.

    Parameters
    ----------
    encoder : Encoder
    model : str
        What the vectors depend on beside the text, see `identity`; vectors of another model are never used.
    path : Path
        The file; created if it is missing, opened at the first `encode`.

    Attributes
    ----------
    dim : int
        Length of a vector.
    hits, misses : int
        Texts that were read, and texts that were encoded; each counts once a call.
    """

    def __init__(self, encoder: Encoder, model: str, path: Path) -> None:
        self.dim = encoder.dim
        self.hits = 0
        self.misses = 0
        self._encoder = encoder
        self._model = blake2b(model.encode(), digest_size=32).digest()
        self._path = path
        self._file: _VectorFile | None = None
        self._usable = True

    def encode(self, texts: Sequence[str]) -> Vector:
        """See `Encoder.encode`; raises the errors of the wrapped encoder."""
        keys = [blake2b(text.encode(errors="replace"), digest_size=16, key=self._model).digest() for text in texts]
        text_of = dict(zip(keys, texts, strict=True))
        vectors = self._read(list(text_of))
        missing = [key for key in text_of if key not in vectors]
        self.hits += len(vectors)
        self.misses += len(missing)
        if missing:
            encoded = self._encoder.encode([text_of[key] for key in missing]).astype(np.float16)
            new = dict(zip(missing, encoded, strict=True))
            self._write(new)
            vectors |= new
        return np.array([vectors[key] for key in keys], np.float32).reshape(-1, self.dim)

    def encode_events(self, texts: Sequence[str]) -> Vector:
        """See `Encoder.encode_events`. A user's words are not kept on disk."""
        return self._encoder.encode_events(texts)

    def close(self) -> None:
        """Close the file; the next `encode` opens it again."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _read(self, keys: Sequence[bytes]) -> Stored:
        try:
            file = self._opened()
            return {key: vector for key, vector in file.read(keys).items() if len(vector) == self.dim} if file else {}
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
            return {}

    def _write(self, vectors: Stored) -> None:
        try:
            if file := self._opened():
                file.write(vectors)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)

    def _opened(self) -> _VectorFile | None:
        if self._file is None and self._usable:
            self._file = _VectorFile(self._path)
        return self._file

    def _failed(self, error: Exception) -> None:
        """Replace a damaged file; go on without a file that is locked, full or not permitted."""
        self.close()
        damaged = type(error) is sqlite3.DatabaseError
        if damaged:
            logger.warning("%s: damaged (%s); replaced by a new file, items are encoded again", self._path, error)
            try:
                for suffix in ("", "-wal", "-shm"):
                    self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)
            except OSError:
                damaged = False
        if not damaged:
            self._usable = False
            logger.warning("%s: %s; vectors are not stored, a restart will encode all items again", self._path, error)


class _VectorFile:
    """Vectors by key. A value is the float16 vector and a checksum, because SQLite has none.

    Raises
    ------
    sqlite3.Error, OSError
        From every method.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._sql = sqlite3.connect(path, check_same_thread=False)
        try:
            self._sql.executescript(_TABLES)
            with self._sql:
                self._load = self._sql.execute("INSERT INTO loads DEFAULT VALUES").lastrowid or 0
                self._sql.execute("DELETE FROM vectors WHERE used < ?", (self._load - UNUSED_LOADS,))
        except sqlite3.Error:
            self._sql.close()
            raise

    def read(self, keys: Sequence[bytes]) -> Stored:
        """Return the vectors of the keys that are stored and intact."""
        vectors: Stored = {}
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = keys[start : start + _KEYS_PER_QUERY]
            condition = f"key IN ({','.join('?' * len(part))})"
            for key, value in self._sql.execute(f"SELECT key, value FROM vectors WHERE {condition}", part):
                if value[-4:] == _checksum(key, value[:-4]):
                    vectors[key] = np.frombuffer(value[:-4], np.float16)
            with self._sql:
                self._sql.execute(
                    f"UPDATE vectors SET used = ? WHERE used <= ? AND {condition}",
                    (self._load, self._load - _RECORD_USE_AFTER, *part),
                )
        return vectors

    def write(self, vectors: Stored) -> None:
        rows = ((key, vector.tobytes(), self._load) for key, vector in vectors.items())
        with self._sql:
            self._sql.executemany(
                "INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)",
                ((key, value + _checksum(key, value), used) for key, value, used in rows),
            )

    def close(self) -> None:
        self._sql.close()


def rounded(vectors: Vector) -> Vector:
    """Round vectors as a `StoredEncoder` does, so that a text that is not stored gets the same vector."""
    return vectors.astype(np.float16).astype(np.float32)


def identity(model: str, dtype: str) -> str:
    """Return what the vectors of a model depend on: its name, its dtype and, for local files, their sizes and times.

    Parameters
    ----------
    model : str
        See `encoders.models.source.resolve`.
    dtype : str
        The dtype that it runs in, not `auto`: another processor may choose another one.
    """
    folder = Path(model_source.resolve(model))
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    stats = [(path.relative_to(folder).as_posix(), path.stat()) for path in files]
    return repr((RECIPE, model, dtype, [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]))


def _checksum(key: bytes, value: bytes) -> bytes:
    return zlib.crc32(value, zlib.crc32(key)).to_bytes(4, "little")
