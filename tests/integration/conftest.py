"""A client of this test's own topics."""

from __future__ import annotations

import pytest

from streams.settings import Settings
from tests.client import Client


@pytest.fixture
def client(settings: Settings) -> Client:
    return Client(settings)
