"""A Kafka like a managed service: login by token, sessions that expire, and topic settings that it refuses.

One node of Apache Kafka with two listeners: SASL/OAUTHBEARER with Kafka's own validator of unsigned tokens, and plain
text for the tests' client. A policy refuses settings of new topics (`tests/fixtures/RefusesSettings.java`).
"""

from __future__ import annotations

import base64
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from streams.testing.embedded import free_port
from tests.faults.cluster import CLUSTER_ID, Server

FIXTURES = Path(__file__).parents[1] / "fixtures"
SESSION_MS = 3_000
"""Kafka closes an older connection at its next request, unless the login was renewed; aiokafka never renews it."""
USER = "afterclick"


@dataclass(frozen=True)
class ManagedAddresses:
    """The address of each listener."""

    token: str
    plain: str


def unsigned(user: str, lifetime_s: float) -> str:
    """Return an unsigned token, which Kafka's validator for tests accepts."""
    now_s = time.time()
    parts: list[dict[str, Any]] = [{"alg": "none"}, {"sub": user, "iat": now_s - 1, "exp": now_s + lifetime_s}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@contextmanager
def kafka(home: Path, folder: Path) -> Iterator[ManagedAddresses]:
    """Run the node; kill it at the end."""
    (folder / "RefusesSettings.class").write_bytes(bytes.fromhex((FIXTURES / "RefusesSettings.hex").read_text()))
    ports = {name: free_port() for name in ("TOKEN", "PLAIN", "CONTROLLER")}
    listeners = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    login = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required"
    properties = folder / "server.properties"
    properties.write_text(
        f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{ports["CONTROLLER"]}
listeners={listeners}
advertised.listeners={listeners.rpartition(",")[0]}
controller.listener.names=CONTROLLER
inter.broker.listener.name=PLAIN
listener.security.protocol.map=TOKEN:SASL_PLAINTEXT,PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT
listener.name.token.sasl.enabled.mechanisms=OAUTHBEARER
listener.name.token.oauthbearer.sasl.jaas.config={login} unsecuredLoginStringClaim_sub="broker";
listener.name.token.oauthbearer.connections.max.reauth.ms={SESSION_MS}
create.topic.policy.class.name=RefusesSettings
log.dirs={folder / "data"}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
    )
    java = ["java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-cp", f"{home}/libs/*:{folder}"]
    formatting = [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(properties)]
    subprocess.run(formatting, check=True, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)
    server = Server([*java, "kafka.Kafka", str(properties)], ports["TOKEN"], folder / "kafka.log")
    server.start()
    try:
        server.wait(90)
        yield ManagedAddresses(*(f"127.0.0.1:{ports[name]}" for name in ("TOKEN", "PLAIN")))
    finally:
        server.kill()
