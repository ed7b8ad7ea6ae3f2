"""Which names a client's models answer to, and which of them are loaded."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.errors import EngineClosed
from edge.models import Models


@pytest.fixture
def models(int8_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Models]:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.setenv("EDGE_ALIAS", "of-the-environment=reka-edge-tiny,of-nothing=not-here")
    models = Models(model=int8_bundle, aliases={"llama3.2:3b": "reka-edge"}, threads=1, context=64)
    yield models
    models.close()


def test_every_name_that_answers_is_listed_with_its_bundle(models: Models) -> None:
    named = models.named()
    ids = models.ids()
    assert list(named)[: len(ids)] == ids and ids[0] == "reka-edge-random"
    assert {name: stored.id for name, stored in named.items() if name not in ids} == {
        "reka-edge": "reka-edge-random",
        "llama3.2:3b": "reka-edge-random",
        "of-the-environment": "reka-edge-tiny",
    }
    assert all(models.bundle(name).id == stored.id for name, stored in named.items())


def test_what_runs_is_what_was_asked(models: Models) -> None:
    assert models.running() == []
    engine = models.engine("llama3.2:3b")
    ((running),) = models.running()
    assert (running.stored.id, running.context) == ("reka-edge-random", 64) == (engine.manifest.id, engine.context)
    memory = engine.manifest.memory
    assert running.n_bytes == memory.weights_bytes + 64 * memory.cache_bytes_per_token


def test_closed_models_list_nothing(models: Models) -> None:
    models.close()
    with pytest.raises(EngineClosed):
        models.named()
    with pytest.raises(EngineClosed):
        models.bundle("reka-edge")
