"""A Kafka like a managed one: tokens to log in, connections that end with their session, settings that it refuses.

One node of Apache Kafka with a listener for SASL/OAUTHBEARER and Kafka's own validator of unsigned tokens, one in plain
text for the tests' own client, and a policy for new topics (`tests/fixtures/RefusesSettings.java`).
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
"""A connection that is older is closed at its next request, unless its login is renewed, which aiokafka never does."""
USER = "afterclick"


@dataclass(frozen=True)
class Addresses:
    """Where each listener is."""

    token: str
    plain: str


def unsigned(user: str, lifetime_s: float) -> str:
    """A token as Kafka's own validator for tests takes it."""
    now_s = time.time()
    parts: list[dict[str, Any]] = [{"alg": "none"}, {"sub": user, "iat": now_s - 1, "exp": now_s + lifetime_s}]
    return ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts) + "."


@contextmanager
def kafka(home: Path, folder: Path) -> Iterator[Addresses]:
    """Run the node."""
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
        yield Addresses(*(f"127.0.0.1:{ports[name]}" for name in ("TOKEN", "PLAIN")))
    finally:
        server.kill()
