"""A model that does not fit is refused before anything of it is mapped, with the numbers and with what would fit."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle import store
from edge.bundle.bundle import Bundle
from edge.bundle.checkpoint_shape import of_config
from edge.bundle.manifest import Manifest
from edge.bundle.shape import ModelShape, of_manifest
from edge.engine import engine, fit
from edge.engine.available import Memory
from edge.engine.engine import Engine
from edge.engine.footprint import Load, alternatives, footprint
from edge.engine.kv import KVS, Kv
from edge.errors import EdgeError, MemoryLimitError, ParameterError, status_of
from tests.edge.bundle.test_shape import EDGE_7B

GB = 10**9


@pytest.fixture(scope="module")
def shape() -> ModelShape:
    return of_config(EDGE_7B, recipe="int4", name="edge-7b")


@pytest.fixture
def tiny() -> Path:
    return store.named("reka-edge-tiny").path


def test_what_fits_is_let_in(shape: ModelShape) -> None:
    fit.check(shape, Load(2048), Memory(16 * GB, 14 * GB))


def test_refusal_has_both_numbers_and_what_would_fit(shape: ModelShape) -> None:
    with pytest.raises(MemoryLimitError) as caught:
        fit.check(shape, Load(16384, slots=4), Memory(16 * GB, 12 * GB))
    told = str(caught.value)
    assert caught.value.available == 12 * GB
    assert caught.value.needed > 24 * GB
    assert f"{caught.value.needed / 1e9:.2f} GB" in told
    assert "12.00 GB of 16.00 GB are available" in told
    assert "decoder 5.53 GB" in told
    assert "--context" in told
    assert "--kv int8" in told
    assert "EDGE_MEMORY_CHECK=off" in told


def test_what_is_said_to_fit_does(shape: ModelShape) -> None:
    here = Memory(16 * GB, 11 * GB)
    with pytest.raises(MemoryLimitError) as caught:
        fit.check(shape, Load(16384), here)
    first = str(caught.value).partition("this would fit: --context ")[2]
    context = int(first.split()[0].strip(",;"))
    fit.check(shape, Load(context), here)
    with pytest.raises(MemoryLimitError):
        fit.check(shape, Load(context + 64), here)


def test_model_that_never_fits_says_what_it_takes_at_least(shape: ModelShape) -> None:
    with pytest.raises(MemoryLimitError, match=r"it takes \d\.\d\d GB at least: close other programs"):
        fit.check(shape, Load(2048), Memory(4 * GB, 3 * GB))


def test_control_group_is_named(shape: ModelShape) -> None:
    with pytest.raises(MemoryLimitError, match="in the control group /sys/fs/cgroup/pod"):
        fit.check(shape, Load(2048), Memory(4 * GB, 3 * GB, "/sys/fs/cgroup/pod"))


def test_context_is_cut_to_what_is_left_beside_the_weights(shape: ModelShape) -> None:
    here = Memory(10 * GB, 8 * GB)
    context = fit.fitting_context(shape, Load(0), here)
    assert 2048 <= context < 8 * GB // 4 // 262144  # a quarter of what is available is more than is left
    fit.check(shape, Load(context), here)


def test_context_of_a_model_that_does_not_fit_is_the_least(shape: ModelShape) -> None:
    assert fit.fitting_context(shape, Load(0), Memory(4 * GB, 3 * GB)) == 2048


def manifest_of(bundle: Path, context: int) -> Manifest:
    manifest = Bundle.open(bundle).manifest
    return replace(manifest, text=replace(manifest.text, context=context))


def free_for(manifest: Manifest, load: Load) -> Memory:
    """The memory that a load takes, to the byte."""
    return Memory(64 * GB, footprint(of_manifest(manifest), load).needed_bytes)


@pytest.mark.parametrize("context", [None, 200_000])
def test_8_bits_are_chosen_where_float32_does_not_fit_beside_the_weights(
    int8_bundle: Path, context: int | None
) -> None:
    manifest = manifest_of(int8_bundle, context=200_000)
    here = free_for(manifest, Load(200_000, kv="int8"))
    load, reason = fit.choose(manifest, kv=None, context=context, slots=1, here=here, is_packed=lambda _: False)
    assert load.kv == "int8"
    assert reason is not None
    fit.check(of_manifest(manifest), load, here)
    with pytest.raises(MemoryLimitError):
        fit.check(of_manifest(manifest), replace(load, kv="fp32", context=200_000), here)


@pytest.mark.parametrize("kv", ["fp32", "int8"])
def test_context_that_is_cut_is_that_of_the_kv(int8_bundle: Path, kv: Kv) -> None:
    manifest = manifest_of(int8_bundle, context=10_000_000)
    here = free_for(manifest, Load(6400, kv=kv))
    load, _ = fit.choose(manifest, kv=kv, context=None, slots=1, here=here, is_packed=lambda _: False)
    assert load.kv == kv
    assert load.context == fit.fitting_context(of_manifest(manifest), load, here)
    fit.check(of_manifest(manifest), load, here)


def test_packed_is_counted_for_the_kv_that_has_it(int8_bundle: Path) -> None:
    manifest = manifest_of(int8_bundle, context=4096)
    for kv in KVS:
        load, _ = fit.choose(
            manifest, kv=kv, context=None, slots=1, here=Memory(64 * GB, 32 * GB), is_packed=lambda each: each == "int8"
        )
        assert load.packed == (kv == "int8")


def test_way_out_names_the_kv_to_pack(shape: ModelShape) -> None:
    shape = replace(shape, files={**shape.files, "decoder-kv8.onnx": 1})
    load = Load(2048, packed=True)
    assert fit.options(replace(load, kv="int8"), load, packed=["fp32"]) == (
        "--kv int8 packed weights (edge models pack --kv int8)"
    )
    assert fit.options(replace(load, kv="int8"), load, packed=["fp32", "int8"]) == "--kv int8"
    unpacked = [each for each in alternatives(shape, load, room_bytes=64 * GB, packed=["fp32"]) if not each.packed]
    assert {each.kv for each in unpacked} == {"int8"}


def test_engine_refuses_before_it_maps_anything(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(tiny, tmp_path / "copy")
    monkeypatch.setattr(engine, "memory", lambda: Memory(64 << 20, 8 << 20))
    monkeypatch.setattr(engine, "Tokenizer", None)  # the first that reads a file
    with pytest.raises(MemoryLimitError, match="reka-edge-tiny does not fit"):
        Engine.open(tmp_path / "copy")


def test_explicit_option_loads_it_all_the_same(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "memory", lambda: Memory(64 << 20, 8 << 20))
    Engine.open(tiny, context=128, check_memory=False).close()
    monkeypatch.setenv(fit.VARIABLE, "off")
    Engine.open(tiny, context=128).close()
    with pytest.raises(MemoryLimitError):
        Engine.open(tiny, context=128, check_memory=True)


def test_variable_with_another_value_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(fit.VARIABLE, "maybe")
    with pytest.raises(ParameterError, match="EDGE_MEMORY_CHECK is 'maybe': expected on or off"):
        fit.is_checked()


def test_server_answers_that_it_is_unavailable() -> None:
    error: EdgeError = MemoryLimitError("x", needed=2, available=1)
    assert status_of(error) == 503
