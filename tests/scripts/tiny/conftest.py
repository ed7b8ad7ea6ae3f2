"""What the tests of the embedded model's training share."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer

from scripts.tiny.lessons import tokenizer
from scripts.tiny.lessons.rows import Writer
from scripts.tiny.training import losses
from tests.scripts.tiny.shapes import SHAPE


@pytest.fixture(scope="module")
def writer() -> Writer:
    return Writer(Tokenizer.from_str(tokenizer.train_tokenizer(seed=0)), SHAPE.tokens)


@pytest.fixture(params=[False, True], ids=["float32", "bfloat16"])
def halved(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As on a processor that multiplies bfloat16 natively, and as on one that does not."""
    monkeypatch.setattr(losses, "has_bfloat16", lambda: request.param)
    return bool(request.param)
