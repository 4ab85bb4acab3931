"""Read the picture that an item names: a path below one folder, or a URL, within bounds of time and size.

An item's URL may come from a seller. So addresses of private networks are not asked, unless that is allowed, and no
path leads out of the folder. Knows no model.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx

from encoders.errors import AfterclickError

MAX_REDIRECTS = 5
_CHUNK = 65_536


class PictureUnavailable(AfterclickError):
    """A picture that could not be read.

    Attributes
    ----------
    reason : str
        The same for all that fail alike.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}{f' ({detail})' if detail else ''}")
        self.reason = reason


@dataclass(frozen=True)
class PictureBounds:
    """What may be read.

    Attributes
    ----------
    folder : Path
        Paths are relative to it.
    timeout_s : float
        Of one picture, redirects included.
    max_bytes : int
        Of one picture.
    private_hosts : bool
        Whether URLs may lead to this machine and to private networks.
    """

    folder: Path
    timeout_s: float
    max_bytes: int
    private_hosts: bool


class PictureReader:
    """Reads pictures, from any number of threads.

    Parameters
    ----------
    bounds : PictureBounds
    """

    def __init__(self, bounds: PictureBounds) -> None:
        self._bounds = bounds
        self._client = httpx.Client(timeout=bounds.timeout_s, follow_redirects=False)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()

    def read(self, image: str) -> bytes:
        """Return the bytes that an item's `image` names.

        Raises
        ------
        PictureUnavailable
        """
        content = self._fetched(image) if "://" in image else self._from_folder(image)
        if len(content) > self._bounds.max_bytes:
            raise PictureUnavailable("too large", f"more than {self._bounds.max_bytes:,} bytes")
        return content

    def _from_folder(self, image: str) -> bytes:
        root = self._bounds.folder.resolve()
        try:
            path = (root / image).resolve()
            if not path.is_relative_to(root):
                raise PictureUnavailable("outside of the folder")
            with path.open("rb") as file:
                return file.read(self._bounds.max_bytes + 1)
        except (OSError, ValueError) as error:
            raise PictureUnavailable("file not readable", str(error)) from error

    def _fetched(self, url: str) -> bytes:
        deadline = time.monotonic() + self._bounds.timeout_s
        try:
            for _ in range(MAX_REDIRECTS + 1):
                self._check_host(url)
                with self._client.stream("GET", url) as answer:
                    if answer.has_redirect_location:
                        url = urljoin(url, answer.headers["location"])
                        continue
                    if answer.status_code != httpx.codes.OK:
                        raise PictureUnavailable(f"status {answer.status_code}")
                    return self._body(answer, deadline)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            reason = "time-out" if isinstance(error, httpx.TimeoutException) else "no answer"
            raise PictureUnavailable(reason, str(error) or type(error).__name__) from error
        raise PictureUnavailable("too many redirects")

    def _body(self, answer: httpx.Response, deadline: float) -> bytes:
        """The content, as far as its size is allowed."""
        content = bytearray()
        for chunk in answer.iter_bytes(_CHUNK):
            content += chunk
            if len(content) > self._bounds.max_bytes:
                break
            if time.monotonic() > deadline:
                raise PictureUnavailable("time-out", f"not complete after {self._bounds.timeout_s:g} s")
        return bytes(content)

    def _check_host(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise PictureUnavailable("no URL of HTTP")
        if self._bounds.private_hosts:
            return
        for *_, address in socket.getaddrinfo(parts.hostname, None):
            if not ipaddress.ip_address(str(address[0]).partition("%")[0]).is_global:
                raise PictureUnavailable("private address")
