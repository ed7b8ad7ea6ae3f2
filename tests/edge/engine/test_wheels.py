"""Which distributions of onnxruntime are installed, told apart from those that only have its name."""

from pathlib import Path

import onnxruntime
import pytest

from edge.engine.wheels import conflict, version, wheels


def install(folder: Path, name: str, number: str, *, file: str) -> None:
    info = folder / f"{name.replace('-', '_')}-{number}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
    (info / "RECORD").write_text(f"{file},,\n{info.name}/METADATA,,\n")
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).touch()  # importlib_metadata, which other packages put in the standard library's place, asks for it


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    return tmp_path


def test_this_onnxruntime_is_found() -> None:
    assert onnxruntime.__version__ in wheels().values()
    assert version() in wheels().values()


def test_a_gpu_wheel_is_onnxruntime(installed: Path) -> None:
    install(installed, "onnxruntime_gpu", "1.31.1", file="onnxruntime/__init__.py")
    install(installed, "onnxruntime-extensions", "0.15.0", file="onnxruntime_extensions/__init__.py")
    install(installed, "onnxruntime-genai", "0.18.0", file="onnxruntime_genai/__init__.py")
    assert wheels() == {"onnxruntime-gpu": "1.31.1"}
    assert version() == "1.31.1" and conflict(wheels()) is None


def test_two_wheels_in_one_folder_are_told_with_the_way_out(installed: Path) -> None:
    install(installed, "onnxruntime", "1.32.0", file="onnxruntime/__init__.py")
    install(installed, "onnxruntime-gpu", "1.31.1", file="onnxruntime/__init__.py")
    told = conflict(wheels())
    assert told is not None
    assert "onnxruntime 1.32.0 and onnxruntime-gpu 1.31.1 are in one folder" in told
    assert "pip uninstall --yes onnxruntime onnxruntime-gpu, then pip install --no-deps onnxruntime-gpu==1.31.1" in told


def test_a_wheel_further_back_on_the_path_is_none_of_the_one_that_is_imported(
    installed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (installed / "own").mkdir()
    (installed / "system").mkdir()
    monkeypatch.setattr("sys.path", [str(installed / "own"), str(installed / "system")])
    install(installed / "own", "onnxruntime-gpu", "1.31.1", file="onnxruntime/__init__.py")
    install(installed / "system", "onnxruntime", "1.32.0", file="onnxruntime/__init__.py")
    assert wheels() == {"onnxruntime-gpu": "1.31.1"}


def test_without_any_there_is_no_version(installed: Path) -> None:
    assert wheels() == {} and version() == "" and conflict({}) is None
