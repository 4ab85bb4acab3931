"""`afterclick embed-images` with a small CLIP: files and URLs, and everything that may be wrong with a picture."""

from __future__ import annotations

import json
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from encoders.images.encoder import ImageEncoder
from encoders.images.pictures import picture
from encoders.models.source import ModelUnsupported
from streams.cli import app
from streams.commands.embed_images import picture_files
from tests import models


def png(colour: str, mode: str = "RGB", side: int = 40) -> bytes:
    content = BytesIO()
    Image.new(mode, (side, side), colour).save(content, "PNG")
    return content.getvalue()


def huge_png() -> bytes:
    """A header that says 60,000 x 60,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))


class Pictures(BaseHTTPRequestHandler):
    """Serves pictures, and what is none."""

    def do_GET(self) -> None:
        answers = {"/red": (200, png("red")), "/text": (200, b"<html>"), "/large": (200, b"x" * 300_000)}
        status, body = answers.get(self.path, (404, b""))
        if self.path == "/slow":
            time.sleep(1.5)
        if self.path in ("/moved", "/loop"):
            status = 302
        self.send_response(status)
        if status == 302:
            self.send_header("Location", "/red" if self.path == "/moved" else "/loop")
        self.send_header("Content-Length", str(len(body)))
        with suppress(BrokenPipeError):  # of who waited no longer
            self.end_headers()
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return models.clip(tmp_path_factory.mktemp("clip"))


def test_every_item_is_written_and_every_failure_is_counted_and_listed(tmp_path: Path, clip: Path, url: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (tmp_path / "outside.png").write_bytes(png("red"))
    for name, content in {"red": png("red"), "red-too": png("red", side=80), "blue": png("blue")}.items():
        (folder / f"{name}.png").write_bytes(content)
    (folder / "huge.png").write_bytes(huge_png())
    images = {
        "red": "red.png", "again": "red-too.png", "blue": "blue.png", "of-url": f"{url}/red", "moved": f"{url}/moved",
        "none": None, "outside": "../outside.png", "missing": "missing.png", "huge": "huge.png", "text": f"{url}/text",
        "gone": f"{url}/gone", "loop": f"{url}/loop", "large": f"{url}/large", "slow": f"{url}/slow",
        "away": "http://127.0.0.1:9/x", "file": "file:///etc/passwd",
    }  # fmt: skip
    items: list[dict[str, object]] = [
        {"item_id": name, "title": name, "image": image} for name, image in images.items()
    ]
    items.append({"item_id": "had", "title": "had", "image": "red.png", "embeddings": {"image": [0.6, 0.8]}})
    (tmp_path / "items.jsonl").write_text("\n".join(map(json.dumps, items)), encoding="utf-8")
    options = ["--items", str(tmp_path / "items.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--folder", str(folder)]
    bounds = ["--timeout-s", "1", "--max-mb", "0.2", "--private-hosts", "--json"]
    done = CliRunner().invoke(app, ["embed-images", "--model", str(clip), *options, *bounds], catch_exceptions=False)
    report = json.loads(done.stdout)
    assert done.exit_code == 0
    assert report["outcomes"] == {
        "embedded": 5, "no image": 1, "had a vector": 1, "failed: outside of the folder": 1,
        "failed: file not readable": 1, "failed: no picture": 2, "failed: status 404": 1,
        "failed: too many redirects": 1, "failed: too large": 1, "failed: time-out": 1, "failed: no answer": 1,
        "failed: no URL of HTTP": 1,
    }  # fmt: skip
    assert [failed for failed, _, _ in report["failures"]] == [*list(images)[6:]]
    written = {item["item_id"]: item for item in map(json.loads, (tmp_path / "out.jsonl").read_bytes().splitlines())}
    assert list(written) == [*images, "had"]
    assert "embeddings" not in written["gone"]
    vectors = {name: item["embeddings"]["image"] for name, item in written.items() if "embeddings" in item}
    assert vectors["red"] == vectors["of-url"] == vectors["moved"] != vectors["blue"]


def test_an_address_of_a_private_network_is_not_asked(url: str, tmp_path: Path) -> None:
    reader = picture_files.PictureReader(picture_files.PictureBounds(tmp_path, 1.0, 1_000, private_hosts=False))
    for address in (f"{url}/red", "http://[::1]/x", "http://169.254.169.254/latest"):
        with pytest.raises(picture_files.PictureUnavailable, match="private address"):
            reader.read(address)


@pytest.mark.parametrize("model", [models.clip, models.siglip])
def test_vectors_depend_on_the_picture_alone_and_transparent_is_white(
    model: Callable[[Path], Path], tmp_path: Path
) -> None:
    encoder = ImageEncoder(str(model(tmp_path)), "cpu", "float32")
    pictures = [picture(png(colour)) for colour in ("red", "blue", "white")] + [picture(png("#ff000000", "RGBA"))]
    vectors = encoder.encode(pictures * 5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[:4], encoder.encode(pictures[:4]), atol=1e-5)
    assert np.allclose(vectors[2], vectors[3], atol=1e-5)
    assert (vectors[:3] @ vectors[:3].T)[0, 1] < 0.999


def test_a_name_that_the_contract_does_not_have_is_refused(tmp_path: Path) -> None:
    options = ["--model", "none", "--items", str(tmp_path / "items.jsonl"), "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["embed-images", *options, "--name", "My Image"])
    assert "--name: got 'My Image'" in str(done.exception)


def test_a_missing_package_is_named_with_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "encoders.images.encoder", None)
    done = CliRunner().invoke(app, ["embed-images", "--model", "none", "--out", str(tmp_path / "out")])
    assert "pip install 'afterclick[images]'" in str(done.exception)


def test_a_model_that_reads_no_pictures_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelUnsupported, match="CLIP or SigLIP"):
        ImageEncoder(str(models.encoder(tmp_path)), "cpu", "float32")
