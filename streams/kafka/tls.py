"""TLS for connections to Kafka: our certificate, and the authorities that we trust."""

from __future__ import annotations

import ssl
from pathlib import Path

from streams import settings


def ssl_context(security: settings.SecuritySettings) -> ssl.SSLContext:
    """Make the context with the certificates that the settings name.

    Raises
    ------
    streams.settings.SettingsError
        A file is missing or cannot be read; the message names the setting.
    """
    prefix = f"{settings.PREFIX}KAFKA__SECURITY__"
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
        file: Path | None = getattr(security, name)
        if file is not None and not file.is_file():
            raise settings.SettingsError(
                f"{prefix}{name.upper()}: got {file}, expected a PEM file that exists; check the path"
            )
    try:
        context = ssl.create_default_context(cafile=security.ssl_cafile)
    except (ssl.SSLError, OSError) as error:
        raise settings.SettingsError(
            f"{prefix}SSL_CAFILE: got {security.ssl_cafile} ({error}), expected certificates in PEM; check the file"
        ) from error
    if security.ssl_certfile is None:
        return context
    password = security.ssl_key_password.get_secret_value() if security.ssl_key_password else ""
    try:
        context.load_cert_chain(security.ssl_certfile, security.ssl_keyfile, password=password)
    except (ssl.SSLError, OSError) as error:
        raise settings.SettingsError(
            f"{prefix}SSL_CERTFILE: got {security.ssl_certfile} ({error}), expected a certificate with its "
            f"key in PEM; check it, {prefix}SSL_KEYFILE and {prefix}SSL_KEY_PASSWORD"
        ) from error
    return context
