"""The files in a model's folder: what they say of the model, and weights that can be read here or what is wrong.

Knows files by their names and JSON; loads no weights and imports no torch.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

INT8_FILE = "int8.safetensors"
SPARSE_FILE = "sparse.safetensors"
WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = "model.safetensors.index.json"
ADAPTER_FILE = "adapter_config.json"
MODULES_FILE = "modules.json"
MULTILINGUAL = "sentence-transformers/paraphrase-multilingual-MiniLM-L12-v2"
"""An encoder to recommend in place of one that cannot be used: mean pooling, no prompts, fifty languages."""
LFS_POINTER = b"version https://git-lfs"
OTHER_FORMATS = (
    ("*.gguf", "GGUF (llama.cpp)", "name the original model that it was converted from"),
    ("*.bin", "PyTorch pickles", "{save}"),
    ("*.pt", "PyTorch pickles", "{save}"),
    ("*.pth", "PyTorch pickles", "{save}"),
    ("*.ckpt", "PyTorch pickles", "{save}"),
    ("*.onnx", "ONNX", "name the original model that it was exported from"),
    ("onnx/*.onnx", "ONNX", "name the original model that it was exported from"),
    ("openvino/*.xml", "OpenVINO", "name the original model that it was exported from"),
    ("*.h5", "TensorFlow weights", "name a model with PyTorch weights"),
    ("*.msgpack", "Flax weights", "name a model with PyTorch weights"),
)
"""Weights that are not read here: the pattern of their files, their name, and what to do."""
SAVE = (
    "load it once where you trust it, with transformers' from_pretrained, and write it with "
    "save_pretrained(OUT), which writes safetensors, and its tokeniser beside it"
)
_LFS = "got {file}, which is a pointer of Git LFS, expected the weights themselves; run `git lfs pull` in its folder"
MERGE = (
    "merge it: peft.AutoPeftModelFor….from_pretrained(FOLDER).merge_and_unload().save_pretrained(OUT), and save the "
    "tokeniser beside it"
)


def what_is_wrong(name: str, folder: Path) -> str | None:
    """Return why the folder of the model `name` cannot be loaded, and what to do; None if all files are there."""
    if (folder / ADAPTER_FILE).is_file():
        base = _base_of_adapter(folder / ADAPTER_FILE)
        return f"got {name!r}, which is a LoRA adapter ({ADAPTER_FILE}) of {base}, expected a whole model; {MERGE}"
    if not (folder / "config.json").is_file():
        return (
            f"got the folder {name!r} with {_listed(folder)}, expected a config.json in it; "
            f"{_other_weights(folder) or 'name the folder that save_pretrained wrote'}"
        )
    if any((folder / file).is_file() for file in (INT8_FILE, SPARSE_FILE)):
        return None
    is_one_file = (folder / WEIGHTS_FILE).is_file()
    if not is_one_file and not (folder / INDEX_FILE).is_file():
        return (
            f"got {name!r} with {_listed(folder)}, expected its weights in {WEIGHTS_FILE}; "
            f"{_other_weights(folder) or 'copy the missing file into it, or name another model'}"
        )
    if not is_one_file and (wrong := _missing_shards(name, folder)):
        return wrong
    return next((_LFS.format(file=file) for file in folder.glob("model*.safetensors") if _is_pointer(file)), None)


def names(name: str, folder: Path) -> list[str]:
    """Return what a model is called, wherever its folder is.

    Parameters
    ----------
    name : str
        The model as it was named.
    folder : Path

    Returns
    -------
    list of str
        The last part of its name and of its folder, the folder in the hub's cache, and the name in its `config.json`.
    """
    config = _json(folder / "config.json")
    real = folder.resolve()
    cached = real.parent.parent.name if real.parent.name == "snapshots" else ""
    in_config = config.get("_name_or_path") if isinstance(config, dict) else None
    return [called for called in dict.fromkeys((Path(name).name, real.name, cached, str(in_config or ""))) if called]


def pools_vectors(folder: Path) -> bool:
    """Return whether a sentence-transformers folder pools, whatever the architecture in its `config.json`."""
    modules = _json(folder / MODULES_FILE)
    listed = modules if isinstance(modules, list) else []
    return any(isinstance(module, dict) and str(module.get("type", "")).endswith(".Pooling") for module in listed)


def _json(file: Path) -> Any:
    """The content of a JSON file; None without the file, or if it is damaged, which its reader reports."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _missing_shards(name: str, folder: Path) -> str | None:
    try:
        shards = set(json.loads((folder / INDEX_FILE).read_text(encoding="utf-8"))["weight_map"].values())
        missing = sorted(shard for shard in shards if not (folder / shard).is_file())
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"got {folder / INDEX_FILE} without an index of weights ({error!r}), expected one; copy the file again"
    if not missing:
        return None
    return (
        f"got {name!r} without {', '.join(missing[:3])} ({len(missing)} of {len(shards)} files of weights), expected "
        f"all that its {INDEX_FILE} names; copy what is missing into {folder}"
    )


def _is_pointer(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(LFS_POINTER)) == LFS_POINTER


def _other_weights(folder: Path) -> str:
    """What to do with the weights in another format that are there; '' if there are none."""
    for pattern, kind, advice in OTHER_FORMATS:
        if any(folder.glob(pattern)):
            return f"its weights are {kind}, which are not read here: {advice.format(save=SAVE)}"
    return ""


def _listed(folder: Path) -> str:
    """The names of the first few files."""
    names = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir() if not path.name.startswith("."))
    if not names:
        return "nothing"
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") + " in it"


def _base_of_adapter(file: Path) -> str:
    try:
        return repr(json.loads(file.read_text(encoding="utf-8"))["base_model_name_or_path"])
    except (ValueError, KeyError, TypeError):
        return "another model"
