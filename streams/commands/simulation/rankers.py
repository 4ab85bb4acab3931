"""The rankers of a simulation, each as settings of a worker: built-in ones, a file of yours, or a model's folder."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ranker.version import folder_of, is_url, name
from streams.commands.completion import RANKERS
from streams.datasets.messages import InputError
from streams.settings import Settings, load

GREEDY, CAREFUL = RANKERS
"""The settings as they are, and those of `careful.toml` beside this file."""
_FOLDER = Path(__file__).parent
_NO_FOLDERS = ("default", "none")


def settings_of(rankers: Sequence[str]) -> dict[str, Settings]:
    """Return the settings of each ranker by the name that figures have. The environment overrides all of them.

    Parameters
    ----------
    rankers : sequence of str
        `greedy`, `careful`, a TOML file, or what `ranker.model` may be: a folder, `default`, `none` or an address.

    Raises
    ------
    InputError
        There is no such ranker, or two have the same name.
    streams.settings.SettingsError
        A file or the environment has a wrong setting.
    """
    found = dict[str, Settings]()
    for ranker in rankers:
        label, settings = _ranker(ranker)
        if label in found:
            raise InputError(f"--ranker: got two of the name {label!r}, expected different names; rename a file")
        found[label] = settings
    return found


def _ranker(ranker: str) -> tuple[str, Settings]:
    if ranker == GREEDY:
        return ranker, load()
    if ranker == CAREFUL:
        settings = load(_FOLDER / "careful.toml")
        rules = None if settings.rules is None else _FOLDER / settings.rules  # an absolute path stays what it is
        return ranker, settings.model_copy(update={"rules": rules})
    if ranker.endswith(".toml"):
        return Path(ranker).stem, load(Path(ranker))
    if is_url(ranker) or ranker in _NO_FOLDERS or folder_of(ranker).is_dir():
        settings = load()
        return name(ranker), settings.model_copy(
            update={"ranker": settings.ranker.model_copy(update={"model": ranker})}
        )
    raise InputError(
        f"--ranker: got {ranker!r}, expected {GREEDY}, {CAREFUL}, a TOML file of settings (shop.toml), or the folder "
        "of a model; check the path"
    )
