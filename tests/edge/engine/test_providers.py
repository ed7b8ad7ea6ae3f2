"""Names of execution providers, and which graphs of which bundles they may compute: decided from plain data."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge.bundle.bundle import Bundle
from edge.bundle.manifest import Manifest, Scheme, TensorRecord
from edge.engine import providers
from edge.engine.engine import Engine
from edge.engine.providers import Provider, chain, check_available, chosen, options_of, parse, placement
from edge.errors import ParameterError


@pytest.fixture
def manifest(fp32_bundle: Path) -> Manifest:
    return Bundle.open(fp32_bundle).manifest


def recipe(manifest: Manifest, scheme: Scheme, *, half: bool = False) -> Manifest:
    tensors = dict.fromkeys(manifest.recipe.tensors, TensorRecord(scheme, 0.0))
    return replace(manifest, recipe=replace(manifest.recipe, tensors=tensors, activations="fp16" if half else "fp32"))


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("cuda,tensorrt,cpu", ("cuda", "tensorrt", "cpu")),
        (" CUDA , cpu ", ("cuda", "cpu")),
        (["TensorrtExecutionProvider", "CUDAExecutionProvider"], ("tensorrt", "cuda")),
        (("cudaexecutionprovider",), ("cuda",)),
        (["cpu", "CPUExecutionProvider", "CPU"], ("cpu",)),
        ("OpenVINO,cpu", ("openvino", "cpu")),
    ],
)
def test_names_are_short_or_onnxruntimes_in_any_case(asked: Sequence[str] | str, found: tuple[Provider, ...]) -> None:
    assert parse(asked) == found


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("gpu", "expected cpu, cuda, tensorrt, openvino"),
        ("cuda,,cpu", "expected cpu, cuda"),
        ("AzureExecutionProvider", "AzureExecutionProvider"),
        ([], "got none"),
        ([None], "got None"),
        ([("CUDAExecutionProvider", {"device_id": 1})], "options of a provider are not supported"),
    ],
)
def test_what_is_no_provider_is_named_beside_what_is(asked: Sequence[str] | str, told: str) -> None:
    with pytest.raises(ParameterError, match=told) as error:
        parse(asked)
    assert error.value.field == "providers"


def test_a_provider_that_is_not_in_this_onnxruntime_is_named_with_the_wheel_that_has_it() -> None:
    told = r"cuda is not in this onnxruntime \(.*\), which has cpu: it is in onnxruntime-gpu"
    with pytest.raises(ParameterError, match=told):
        check_available(["cuda", "cpu"], ["AzureExecutionProvider", "CPUExecutionProvider"], field="providers")
    check_available(["cuda", "cpu"], ["CUDAExecutionProvider", "CPUExecutionProvider"], field="providers")


def test_the_environment_chooses_where_nobody_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "available", lambda: [*providers.ORT_NAMES.values()])
    assert chosen(None) == ("cpu",)
    monkeypatch.setenv(providers.VARIABLE, "tensorrt,cpu")
    assert chosen(None) == ("tensorrt", "cpu")
    assert chosen(["cpu"]) == ("cpu",)
    monkeypatch.setenv(providers.VARIABLE, "nonsense")
    with pytest.raises(ParameterError, match=r"^EDGE_PROVIDERS: .*'nonsense'"):
        chosen(None)


def test_the_cpu_alone_is_chosen_without_loading_onnxruntime(monkeypatch: pytest.MonkeyPatch) -> None:
    def never() -> list[str]:
        raise AssertionError

    monkeypatch.setattr(providers, "available", never)
    assert chosen("cpu") == chosen(None) == ("cpu",)


ALL: tuple[Provider, ...] = ("cuda", "tensorrt", "openvino", "cpu")


def test_a_float16_bundle_has_its_decoder_on_cuda_and_towers_on_tensorrt_first(manifest: Manifest) -> None:
    half = recipe(manifest, "fp16", half=True)
    assert placement("decoder.onnx", half, ALL).providers == ("cuda",)
    for graph in ("vision.onnx", "audio.onnx"):
        assert placement(graph, half, ALL).providers == ("tensorrt", "cuda", "openvino")
    assert placement("vision.onnx", half, ("cuda", "cpu")).providers == ("cuda",)


def test_float32_attention_stays_on_the_cpu_and_float32_towers_do_not(manifest: Manifest) -> None:
    decoder = placement("decoder.onnx", manifest, ALL)
    assert decoder.providers == () and decoder.falls_back
    assert any("no CUDA kernel" in reason and "--recipe int4-fp16" in reason for reason in decoder.refused)
    tower = placement("vision.onnx", manifest, ALL)
    assert tower.providers == ("cuda", "openvino")
    assert any(reason.startswith("TensorRT: ") for reason in tower.refused)


def test_towers_in_int8_stay_on_the_cpu(manifest: Manifest) -> None:
    tower = placement("vision.onnx", recipe(manifest, "int8"), ("cuda", "tensorrt", "cpu"))
    assert tower.providers == () and len(tower.refused) == 2
    assert all("int8" in reason for reason in tower.refused)


def test_a_projection_in_int8_keeps_its_tower_on_the_cpu(manifest: Manifest) -> None:
    half = recipe(manifest, "fp16", half=True)
    tensors = {**half.recipe.tensors, "projection.0": TensorRecord("int8", 0.0)}
    mixed = replace(half, recipe=replace(half.recipe, tensors=tensors))
    assert placement("vision.onnx", mixed, ("cuda", "cpu")).providers == ()
    assert placement("audio.onnx", mixed, ("cuda", "cpu")).providers == ("cuda",)


def test_without_the_cpu_nothing_falls_back_to_it(manifest: Manifest) -> None:
    assert not placement("vision.onnx", manifest, ("cuda",)).falls_back
    assert placement("vision.onnx", manifest, ("cuda", "cpu")).falls_back


def test_cuda_computes_what_tensorrt_leaves_where_it_may() -> None:
    names = [name for name, _ in chain("tensorrt", ("tensorrt", "cuda", "cpu"), {})]
    assert names == ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    names = [name for name, _ in chain("tensorrt", ("tensorrt", "cpu"), {})]
    assert names == ["TensorrtExecutionProvider", "CPUExecutionProvider"]
    assert chain("cuda", ("cuda",), {"cuda": {"device_id": "0"}})[0] == ("CUDAExecutionProvider", {"device_id": "0"})


def test_tensorrt_builds_one_engine_for_the_shape_of_a_tile_and_keeps_it(manifest: Manifest) -> None:
    assert manifest.vision is not None
    side = manifest.vision.tile_px
    options = options_of("vision.onnx", manifest, engines="/kept")["tensorrt"]
    assert {options[f"trt_profile_{kind}_shapes"] for kind in ("min", "opt", "max")} == {f"tiles:1x3x{side}x{side}"}
    assert options["trt_engine_cache_path"] == options["trt_timing_cache_path"] == "/kept"
    assert "trt_engine_cache_enable" not in options_of("vision.onnx", manifest, engines=None)["tensorrt"]


def test_an_engine_refuses_a_provider_that_is_not_here(fp32_bundle: Path) -> None:
    with pytest.raises(ParameterError, match="tensorrt is not in this onnxruntime"):
        Engine.open(fp32_bundle, providers=["tensorrt", "cpu"])
    with pytest.raises(ParameterError, match="'gpu'"):
        Engine.open(fp32_bundle, providers="gpu")
