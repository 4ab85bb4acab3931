"""Tell environment variables that an orchestrator made from settings.

Kubernetes gives every container variables about every service of its namespace, and `docker run --link` about every
linked container. A service or container named `afterclick` or `afterclick-rank` makes names that begin as our settings
do. The name tells them apart, and for `…_PORT` and `…_NAME`, which a person may have mistyped, the value does. Knows
no setting; reads no environment.
"""

from __future__ import annotations

import re

_NAMES = re.compile(
    r"SERVICE_(HOST|PORT(_[A-Z0-9_]+)?)"  # Kubernetes; after PORT the name of the port
    r"|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?"  # both
    r"|ENV_\w+"  # Docker: the linked container's own variables
)
_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+", re.IGNORECASE)
_CONTAINER = re.compile(r"/\S+/\S+")


def is_service_link(name: str, value: str, prefix: str) -> bool:
    """Tell whether the variable is about a service whose name begins with the prefix.

    >>> is_service_link("AFTERCLICK_PORT", "tcp://10.0.0.1:9464", "AFTERCLICK_")
    True
    >>> is_service_link("AFTERCLICK_METRICS_PORT", "9464", "AFTERCLICK_")
    False
    """
    rest = name.upper().removeprefix(prefix)
    words = rest.split("_")
    ends = ["_".join(words[start:]) for start in range(len(words))]  # the service may be named `afterclick-x-y`
    return (
        any(_NAMES.fullmatch(end) for end in ends)
        or (words[-1] == "PORT" and _ADDRESS.fullmatch(value) is not None)
        or (words[-1] == "NAME" and _CONTAINER.fullmatch(value) is not None)
    )
