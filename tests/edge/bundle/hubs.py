"""The hub of the tests as huggingface_hub of this process sees it: its address, an empty cache, no token, no wait."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants
from huggingface_hub.utils import reset_sessions

from edge.bundle import hub as talking
from tests.hub import Hub, serving

__all__ = ["hub"]


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub without a repository; another test, or transformers, may have set what this process knows of hubs."""
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf" / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "hf" / "token"))
    monkeypatch.setattr(talking, "WAIT_S", 0.0)
    reset_sessions()
    with serving(Hub()) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served
    reset_sessions()
