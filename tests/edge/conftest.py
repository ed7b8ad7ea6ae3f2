"""Engines on the tiny INT8 bundle."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.engine.engine import Engine


@pytest.fixture(scope="module")
def engine(int8_bundle: Path) -> Iterator[Engine]:
    with Engine.open(int8_bundle, slots=3) as engine:
        yield engine


@pytest.fixture
def own_engine(int8_bundle: Path) -> Iterator[Engine]:
    """An engine that a test may spoil."""
    with Engine.open(int8_bundle, slots=2) as engine:
        yield engine
