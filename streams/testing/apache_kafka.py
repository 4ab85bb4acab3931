"""Apache Kafka on this machine, for tests and benchmarks: one node, run from its jars with Java.

Knows nothing of Afterclick's topics and keys.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from types import TracebackType

from streams.testing.embedded import EmbeddedUnavailable, free_port, log_end, stop_process

_KAFKA_START_TIMEOUT_S = 60.0
_CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qg"  # any UUID, as Kafka writes them


class ApacheKafka:
    """One node of Apache Kafka in KRaft mode on free ports of the loopback interface; its data is deleted at the end.

    Clients must create topics before they use them.

    Parameters
    ----------
    home : Path
        A folder with Kafka's jars in `libs/`, as in the official download.
    properties : str
        Further lines for `server.properties`; they override ours.

    Attributes
    ----------
    bootstrap_servers : str
        The address; set when the context is entered.
    data : Path
        The folder of the logs, with a folder for each partition; set when the context is entered.

    Raises
    ------
    EmbeddedUnavailable
        When the context is entered: the jars or Java are missing, or Kafka did not start within a minute.

    Examples
    --------
    ::

        with ApacheKafka(Path("kafka_2.13-4.1.0")) as kafka:
            producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
    """

    bootstrap_servers: str
    data: Path

    def __init__(self, home: Path, properties: str = "") -> None:
        self._home = home
        self._properties = properties

    def __enter__(self) -> ApacheKafka:
        libs = self._home / "libs"
        if not any(libs.glob("kafka_*.jar")):
            raise EmbeddedUnavailable(
                f"KAFKA_HOME: got no kafka_*.jar in {libs}, expected Kafka's jars there; set it to the folder "
                "that Kafka's download unpacks to"
            )
        if not shutil.which("java"):
            raise EmbeddedUnavailable("java: got none on PATH, expected 17 or newer, to run Kafka; install a JRE")
        port, controller = free_port(), free_port()
        self.bootstrap_servers = f"127.0.0.1:{port}"
        self._folder = tempfile.TemporaryDirectory(prefix="afterclick-kafka-", ignore_cleanup_errors=True)
        folder = Path(self._folder.name)
        self.data = folder / "data"
        self._log, properties = folder / "log", folder / "server.properties"
        properties.write_text(_kafka_properties(port, controller, self.data) + self._properties, encoding="utf-8")
        java = ["java", "-Xmx512m", "-cp", f"{libs}/*"]
        formatting = [*java, "kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c", str(properties)]
        with self._log.open("wb") as log:
            code = subprocess.run(formatting, stdout=log, stderr=log, stdin=subprocess.DEVNULL).returncode
            if code:
                tail = log_end(self._log)
                self._folder.cleanup()
                raise EmbeddedUnavailable(
                    f"Kafka: got exit code {code} from formatting its storage ({tail}), expected 0; check that "
                    f"java is 17 or newer and the jars in {libs} are whole"
                )
            self._process = subprocess.Popen(
                [*java, "kafka.Kafka", str(properties)],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        try:
            self._wait(port)
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + _KAFKA_START_TIMEOUT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError as error:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    raise EmbeddedUnavailable(
                        f"Kafka: got exit code {self._process.poll()} and no listener on port {port} "
                        f"({log_end(self._log)}), expected one within {_KAFKA_START_TIMEOUT_S:g} s; set "
                        "AFTERCLICK_KAFKA__BOOTSTRAP_SERVERS to a Kafka that runs"
                    ) from error
            time.sleep(0.1)

    def _stop(self) -> None:
        stop_process(self._process)
        self._folder.cleanup()


def _kafka_properties(port: int, controller: int, data: Path) -> str:
    """Return the settings of one node that is broker and controller, with few internal partitions."""
    return f"""process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={data}
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
"""
