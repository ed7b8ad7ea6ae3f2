"""What is shown of an object at a prompt, and that nothing is opened for it."""

from pathlib import Path

import pytest

from edge import AsyncReka, Camera, Engine, Microphone, Reka
from edge.bundle.bundle import Bundle


def test_an_engine_shows_model_context_and_slots(fp32_bundle: Path) -> None:
    engine = Engine.open(fp32_bundle, context=64, slots=2, threads=1, kv="fp32")
    assert repr(engine) == "Engine('reka-edge-random', context=64, slots=2, threads=1, kv='fp32')"
    engine.close()
    assert repr(engine).endswith(", closed)")
    shown = repr(Bundle.open(fp32_bundle))
    assert shown.startswith("Bundle('reka-edge-random', recipe='fp32', context=") and len(shown) < 300


def test_a_client_shows_its_model_and_loads_nothing_for_it(fp32_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Reka(model=fp32_bundle, context=64) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "open", None)
            assert "reka-edge-random" in repr(client)
            assert "reka-edge-random" in repr(AsyncReka(model=fp32_bundle, context=64))
        client.chat.create(model="reka-edge", messages=[{"role": "user", "content": "Hi"}], max_tokens=1)
        assert "Engine('reka-edge-random', context=64, slots=" in repr(client)
    assert repr(client) == "Reka(closed)"


def test_devices_show_what_they_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    with Camera(tmp_path / "a.png", stale_s=2) as camera:
        assert "a.png" in repr(camera) and "stale_s=2" in repr(camera)
    assert repr(Microphone()) == "Microphone('microphone', stale_s=2)"
