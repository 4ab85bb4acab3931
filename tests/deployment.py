"""What the tests of the deployment share: YAML files, and whether the settings of a container are settings."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from streams.settings import Settings, load
from streams.settings.table import rows

DEPLOY = Path(__file__).parents[1] / "deploy"
VARIABLES = {row.variable for row in rows(Settings)}
TOKEN = "a-token-of-16-characters-or-more"


def read_yaml(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def check_settings(environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Load the settings as the container would; each variable is a setting and has a value that it takes."""
    assert set(environment) <= VARIABLES
    with monkeypatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        return load()
