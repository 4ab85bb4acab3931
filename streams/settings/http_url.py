"""What an address of HTTP must look like. Opens no connection."""

from __future__ import annotations

from urllib.parse import urlsplit


def check_url(url: str, login: str) -> None:
    """Refuse a URL that is not HTTP's, or that shows a login.

    Parameters
    ----------
    url : str
    login : str
        Where a login belongs, for the text of the error.

    Raises
    ------
    ValueError
        The text says what was expected.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("http://host:port or https://host")
    if parts.username is not None:
        raise ValueError(f"a URL without a login; {login}")
    if parts.query or parts.fragment:
        raise ValueError("a URL without ? and #")
