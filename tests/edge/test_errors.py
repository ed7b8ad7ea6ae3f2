"""`except edge.EdgeError` catches what the package raises, and nothing that it means for itself gets out."""

import importlib
import inspect
import pkgutil
from collections.abc import Iterator

import pytest
import reka

import edge
from edge.chat.reply import api_errors
from edge.errors import STATUS, EdgeError

ERROR_MODULES = ("edge.errors", "edge.types")
# Never leave the package: each is raised and caught in it, most in one module.
OWN = {
    "edge.batch.lines.LineError",
    "edge.devices.deliveries.Undelivered",
    "edge.devices.sources.NothingYet",
    "edge.engine.grammar.expansion.PatternError",
    "edge.server.streaming.StreamBroken",
    "edge.tools.calling.Died",
    "edge.tools.mcp.stdio.Misbehaved",
    "edge.media.dial.Refused",
    "edge.media.opencv.Unwritten",
    "edge.media.wire.WireError",
}


def raised() -> Iterator[type[BaseException]]:
    """Every class of exception that the package defines."""
    for found in pkgutil.walk_packages(edge.__path__, "edge."):
        if found.name == "edge.__main__":
            continue
        for _, kind in inspect.getmembers(importlib.import_module(found.name), inspect.isclass):
            if issubclass(kind, BaseException) and kind.__module__ == found.name:
                yield kind


def test_everything_that_is_raised_is_an_edge_error() -> None:
    others = {f"{kind.__module__}.{kind.__name__}" for kind in raised() if not issubclass(kind, EdgeError)}
    assert {name for name in others if not name.rpartition(".")[2].startswith("_")} == OWN


def test_every_error_that_is_public_is_caught_by_one_name() -> None:
    public = [kind for name in edge.__all__ if inspect.isclass(kind := getattr(edge, name))]
    errors = {kind.__name__ for kind in public if issubclass(kind, BaseException)}
    assert all(issubclass(getattr(edge, name), EdgeError) for name in errors)


def test_every_error_that_gets_out_can_be_imported_from_edge() -> None:
    tree = {kind.__name__ for kind in raised() if issubclass(kind, EdgeError) and kind.__module__ in ERROR_MODULES}
    assert tree == {"ApiError", "UnprocessableEntityError", *(kind.__name__ for kind in STATUS)}
    assert all(name in edge.__all__ and getattr(edge, name).__name__ == name for name in tree)


def test_an_api_error_is_as_the_sdks() -> None:
    ours, theirs = (
        edge.ApiError(status_code=404, body={"detail": "x"}),
        reka.core.ApiError(status_code=404, body={"detail": "x"}),
    )
    assert str(ours) == str(theirs)
    assert (ours.status_code, ours.body) == (theirs.status_code, theirs.body)
    assert str(edge.ApiError()) == str(reka.core.ApiError())


def test_an_api_error_passes_through_the_translation_as_it_is() -> None:
    error = edge.ApiError(status_code=418, body={"detail": "x"})
    with pytest.raises(edge.ApiError) as caught, api_errors():
        raise error
    assert caught.value is error


@pytest.mark.parametrize(
    "wrong",
    [
        {"messages": []},
        {"model": "nonsense"},
        {"top_p": 7},
        {"use_search_engine": True},
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "no.png"}]}]},
    ],
)
def test_what_a_client_raises_is_caught(wrong: dict[str, object]) -> None:
    fields = {"messages": [{"role": "user", "content": "x"}], "model": "reka-edge", **wrong}
    with edge.Reka() as client, pytest.raises(edge.EdgeError):
        client.chat.create(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong", [{"model": "nonsense"}, {"model": "/nowhere"}, {"providers": ["CUDA"]}, {"context": 1 << 40}]
)
def test_what_making_a_client_raises_is_caught(wrong: dict[str, object]) -> None:
    with pytest.raises(edge.EdgeError), edge.Reka(**wrong) as client:  # type: ignore[arg-type]
        client.chat.create(messages=[edge.ChatMessage(role="user", content="x")], model="reka-edge")
