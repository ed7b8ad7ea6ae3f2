"""Bundles that change on disk while they are loaded: refused before they are read, loaded anew once they are right."""

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import edge
from edge.bundle import store
from edge.bundle.loaded import LoadedFiles
from edge.bundle.packed import Index, Packed
from edge.commands.serve import _tell
from edge.engine.engine import Engine
from edge.errors import BundleChanged, BundleError
from edge.models import Models
from edge.server.app import App, served_chat
from tests.edge.asking import answer, ask, options

EMBEDDED = Path(__file__).parents[3] / "models" / "reka-edge-tiny"
QUESTION = [{"role": "user", "content": "Hello!"}]
HEADERS = {"content-type": "application/json"}
BODY = b'{"model": "reka-edge-tiny", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 2}'


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A bundle of one's own, whose files may be changed."""
    return Path(shutil.copytree(EMBEDDED, tmp_path / "reka-edge-tiny"))


@pytest.fixture
def app(own: Path) -> Iterator[App]:
    app = App(served_chat(Models(model=own, aliases={}, threads=1, context=256)))
    yield app
    app.close()


def said(app: App, method: str = "POST", path: str = "/v1/chat", body: bytes = BODY) -> tuple[int, str]:
    status, _, parts = app.respond(method, path, HEADERS, body)
    return status, b"".join(parts).decode()


def replaced(path: Path, data: bytes) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_bytes(data)
    fresh.replace(path)


CHANGES = {
    "cut": lambda path: os.truncate(path, 4096),
    "longer": lambda path: os.truncate(path, path.stat().st_size + 1),
    "written to": lambda path: (path.write_bytes(path.read_bytes()), os.utime(path, (1, 1))),
    "replaced": lambda path: replaced(path, path.read_bytes()),
    "gone": lambda path: path.unlink(),
}
WORDS = {
    "cut": "has 4096 bytes",
    "longer": r"has \d+ bytes, and had",
    "written to": "was written to",
    "replaced": "was replaced",
    "gone": "is gone",
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("name", ["decoder.bin", "embedding.bin", "vision.bin"])
def test_a_file_that_changes_is_refused_before_it_is_read(own: Path, name: str, change: str) -> None:
    with Engine.open(own, threads=1, context=256) as engine:
        answer(engine, ask(engine, "Hello!"), options(2))
        CHANGES[change](own / name)
        for _ in range(2):
            with pytest.raises(BundleChanged, match=f"{name} of reka-edge-tiny {WORDS[change]}"):
                engine.stream(ask(engine, "Hello!"), options(2))
        with pytest.raises(BundleChanged):
            engine.score(ask(engine, "Hello!"), [5])
        assert name in str(engine.changed())


def test_a_generation_under_way_ends_with_the_reason(own: Path) -> None:
    with Engine.open(own, threads=1, context=4096) as engine:
        handle = engine.stream(ask(engine, "Hello!"), options(4000))
        CHANGES["longer"](own / "embedding.bin")  # a cut file could end the process in the middle of a step
        try:
            for _ in handle:
                pass
        except BundleChanged as error:
            assert "embedding.bin" in str(error)  # noqa: PT017 - it may have ended before
        with pytest.raises(BundleChanged):
            engine.stream(ask(engine, "Hello!"), options(2))


def test_over_http_it_is_a_503_and_health_fails_with_the_reason(app: App, own: Path) -> None:
    assert said(app, "GET", "/health", b"") == (200, '{"status":"ok"}')
    assert said(app)[0] == 200
    os.truncate(own / "vision.bin", 4096)
    for _ in range(2):
        status, words = said(app)
        assert status == 503
        assert "vision.bin of reka-edge-tiny has 4096 bytes" in words
        assert str(own.parent) not in words
    status, words = said(app, "GET", "/health", b"")
    assert status == 503
    assert '"status":"failing"' in words
    assert "vision.bin" in words


def test_files_that_are_right_again_are_loaded_anew(app: App, own: Path) -> None:
    assert said(app)[0] == 200
    data = (own / "vision.bin").read_bytes()
    os.truncate(own / "vision.bin", 4096)
    assert said(app)[0] == 503
    replaced(own / "vision.bin", data[:-1] + bytes([data[-1] ^ 1]))
    assert said(app)[0] == 503
    replaced(own / "vision.bin", data)
    assert said(app)[0] == 200
    assert said(app, "GET", "/health", b"")[0] == 200


def test_damaged_files_are_read_once_not_for_every_request(
    app: App, own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert said(app)[0] == 200
    os.truncate(own / "vision.bin", 4096)
    read = []
    check = store.check
    monkeypatch.setattr(store, "check", lambda path: (read.append(path), check(path)))
    assert [said(app)[0] for _ in range(3)] == [503] * 3
    assert len(read) == 1


def test_verify_finds_before_loading_what_opening_does_not(own: Path) -> None:
    data = bytearray((own / "decoder.bin").read_bytes())
    data[len(data) // 2] ^= 1
    (own / "decoder.bin").write_bytes(data)
    Engine.open(own, threads=1, context=256).close()
    with pytest.raises(BundleError, match=r"decoder\.bin: its sha256"):
        Engine.open(own, threads=1, context=256, verify=True)
    with edge.Reka(model=own, verify=True, threads=1, context=256) as client, pytest.raises(edge.ApiError) as caught:
        client.chat.create(messages=QUESTION, model="reka-edge-tiny", max_tokens=2)
    assert "decoder.bin: its sha256" in str(caught.value.__cause__)


def test_verify_of_an_audio_bundle_answers(own: Path) -> None:
    with edge.Reka(model=own, verify=True, threads=1, context=256) as client:
        assert client.chat.create(messages=QUESTION, model="reka-edge-tiny", max_tokens=2).responses


def test_what_has_changed_once_is_not_trusted_again(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"123")
    os.utime(tmp_path / "a.bin", (5, 5))
    files = LoadedFiles(tmp_path, ["a.bin"])
    assert files.changed() is None
    os.truncate(tmp_path / "a.bin", 1)
    assert files.changed() is not None
    (tmp_path / "a.bin").write_bytes(b"123")
    os.utime(tmp_path / "a.bin", (5, 5))
    assert files.changed() is not None


class Full:
    """A stream on a disk that is full."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")

    def flush(self) -> None:
        raise OSError(28, "No space left on device")


def test_a_server_whose_log_is_full_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Full())
    _tell("http://127.0.0.1:1", "model x; no key is needed")


def test_packed_weights_that_are_closed_while_they_are_asked_about_have_not_changed(tmp_path: Path) -> None:
    class ClosedMeanwhile(Packed):
        @property
        def descriptors(self) -> dict[str, int]:
            kept = self._kept
            if loaded:
                loaded[0].close()
            return kept

        @descriptors.setter
        def descriptors(self, given: dict[str, int]) -> None:
            self._kept = given

    def opened() -> int:
        return os.open(tmp_path, os.O_RDONLY)

    loaded: list[LoadedFiles] = []
    packed = ClosedMeanwhile(tmp_path, Index(1, "a", "b", {}, {}), opened(), {"decoder.bin": opened()})
    loaded.append(LoadedFiles(tmp_path, [], packed))
    assert loaded[0].changed() is None
