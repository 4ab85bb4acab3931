"""Run the commands of the Dockerfile without a container engine, and a worker from what they install.

`make image-check FOLDER=...`: the stage `build` runs line by line, with a new folder in FOLDER in the place of `/`.
Then a worker starts from there, on embedded servers, and must become ready. Downloads PyTorch.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from pydantic import SecretStr

from streams.settings import KafkaSettings, MetricsSettings, RedisSettings, Settings, TablesSettings
from streams.testing import worker_process
from streams.testing.embedded import PARTITIONS, EmbeddedKafka, EmbeddedRedis, free_port

ROOT = Path(__file__).parents[1]
READY_TIMEOUT_S = 300.0


def build_stage() -> list[tuple[str, str]]:
    """Return instruction and arguments of each line of the stage `build`."""
    text = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
    stage = text.partition(" AS build\n")[2].partition("\nFROM ")[0]
    joined = re.sub(r"\\\n\s*", "", re.sub(r"^#.*\n", "", stage, flags=re.MULTILINE))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def build(folder: Path) -> Path:
    """Run the stage; return the environment that it makes."""
    source, environment = folder / "build", folder / "opt/afterclick"
    source.mkdir(parents=True)
    programs = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "TORCH": "cpu"}
    for instruction, rest in build_stage():
        if instruction == "COPY":
            *names, target = rest.split()
            for name in names:
                if (ROOT / name).is_dir():
                    shutil.copytree(ROOT / name, source / target, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(ROOT / name, source)
        elif instruction == "RUN":
            command = rest.replace("/opt/afterclick", str(environment))
            print(f"RUN {command}", flush=True)
            subprocess.run(["sh", "-ec", command], check=True, cwd=source, env={**os.environ, **programs})
    return environment


def ready_after(environment: Path, folder: Path) -> float:
    """Start a worker of the environment on empty servers; return the seconds until it was ready."""
    with EmbeddedKafka() as kafka, EmbeddedRedis() as redis:
        settings = Settings(
            kafka=KafkaSettings(bootstrap_servers=kafka.bootstrap_servers, partitions=PARTITIONS, create_topics=False),
            redis=RedisSettings(url=SecretStr(redis.url)),
            tables=TablesSettings(data_dir=folder / "data"),
            metrics=MetricsSettings(port=free_port()),
        )
        started = time.monotonic()
        command = (str(environment / "bin/afterclick"), "worker")
        with worker_process.worker(settings, command=command) as worker:
            worker.wait_ready(READY_TIMEOUT_S)
            return time.monotonic() - started


def main() -> None:
    """Build, start, and print the figures."""
    with tempfile.TemporaryDirectory(prefix="afterclick-image-", dir=sys.argv[1] if sys.argv[1:] else None) as name:
        folder = Path(name)
        environment = build(folder)
        size = sum(path.lstat().st_size for path in environment.rglob("*"))
        print(
            f"{size / 1e9:.2f} GB in the environment; a worker was ready after {ready_after(environment, folder):.1f} s"
        )


if __name__ == "__main__":
    main()
