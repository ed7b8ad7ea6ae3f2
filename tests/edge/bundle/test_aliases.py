"""Further names for models: as an option, in EDGE_ALIAS, beside the bundles; in process and over HTTP alike."""

import json
from pathlib import Path

import httpx
import pytest
from typer.testing import CliRunner

import edge
from edge.bundle import aliases, choices, store
from edge.cli import app
from edge.errors import ParameterError, UnknownModelError

ASKED = [edge.ChatMessage(role="user", content="Hi")]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_MODELS", str(tmp_path / "models"))
    monkeypatch.delenv("EDGE_ALIAS", raising=False)
    return tmp_path / "models"


def found(name: str, **given: str) -> str:
    return store.resolve(name, aliases=given, first=None).id


def ran(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["models", "alias", *arguments])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.stdout


def test_pairs_are_read_with_spaces_around_them_and_commas_at_the_end() -> None:
    assert aliases.parse(" a=b, c-1.2 = d ,", field="x") == {"a": "b", "c-1.2": "d"}
    assert aliases.parse("", field="x") == {}


@pytest.mark.parametrize("text", ["a", "a=", "=b", "a=b=c", "a b=c", "a=b c", "a\x1b=b", "a=b;c=d", f"{'a' * 201}=b"])
def test_what_is_no_pair_is_refused_by_name(text: str) -> None:
    with pytest.raises(ParameterError, match="^EDGE_ALIAS .*: expected NAME=MODEL, such as"):
        aliases.parse(text, field="EDGE_ALIAS")


def test_a_program_without_an_edit_runs_by_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ALIAS", "reka-core-20240501=reka-edge,reka-flash=reka-edge")
    assert {found("reka-core-20240501"), found("reka-flash"), found("reka-flash-20240226")} == {"reka-edge-tiny"}
    with edge.Reka() as client:
        assert client.chat.create(messages=ASKED, model="reka-core-20240501", max_tokens=1).model == "reka-edge-tiny"


def test_a_program_without_an_edit_runs_by_what_is_stored() -> None:
    assert ran("reka-core-20240501=reka-edge") == "reka-core-20240501 is an alias of reka-edge: reka-edge-tiny\n"
    body = {"model": "reka-core-20240501", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1}
    with httpx.Client(transport=edge.Transport()) as client:
        for route in ("http://edge/v1/chat", "http://edge/v1/chat/completions"):
            answer = client.post(route, json=body)
            assert (answer.status_code, answer.json()["model"]) == (200, "reka-edge-tiny")
    with edge.Reka(model="reka-core-20240501") as reka:
        assert reka.models.get()[0].id == "reka-edge-tiny"


def test_the_programs_aliases_win_then_the_environments_then_ids_then_stored_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store.set_aliases({"x": "reka-edge"})
    assert found("x") == "reka-edge-tiny"
    monkeypatch.setenv("EDGE_ALIAS", "x=nowhere")
    with pytest.raises(UnknownModelError, match="'x' is an alias of 'nowhere', which is not installed"):
        found("x")
    assert found("x", x="reka-edge") == "reka-edge-tiny"
    monkeypatch.delenv("EDGE_ALIAS")
    choices.change_aliases(lambda known: {**known, "reka-edge-tiny": "nowhere"})
    assert found("reka-edge-tiny") == "reka-edge-tiny"


def test_names_may_stand_for_names_and_rings_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ALIAS", "a=b,b=c,c=a,reka-edge=reka-edge,new=old")
    store.set_aliases({"old": "reka-edge-20240208"})
    assert {found("new"), found("new-20240501"), found("reka-edge")} == {"reka-edge-tiny"}
    with pytest.raises(UnknownModelError):
        found("a")


def test_an_environment_that_is_wrong_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_ALIAS", "reka-core")
    with pytest.raises(ParameterError, match="EDGE_ALIAS 'reka-core'"):
        edge.Reka()


def test_stored_aliases_are_listed_changed_and_removed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran("set", "a=reka-edge", "b=a")
    ran("a", "reka-edge-tiny")
    monkeypatch.setenv("EDGE_ALIAS", "z=nowhere")
    assert (
        ran()
        == ran("list")
        == (
            "z=nowhere: not installed (EDGE_ALIAS)\n"
            "a=reka-edge-tiny: reka-edge-tiny (stored)\n"
            "b=a: reka-edge-tiny (stored)\n"
        )
    )
    assert json.loads(ran("--json"))[1] == {
        "name": "a", "model": "reka-edge-tiny", "answers": "reka-edge-tiny", "where": "stored",
    }  # fmt: skip
    ran("remove", "a")
    assert choices.aliases() == {"b": "a"}
    assert sorted(path.name for path in folder.iterdir()) == [".aliases", ".lock"]


def test_aliases_that_would_do_nothing_are_refused() -> None:
    with pytest.raises(ParameterError, match="a bundle of this id is installed, and wins"):
        ran("reka-edge-tiny=reka-edge")
    with pytest.raises(UnknownModelError):
        ran("a=nowhere")
    with pytest.raises(ParameterError, match="no such alias is stored; expected one of: none"):
        ran("remove", "a")
    assert choices.aliases() == {}


def test_a_file_that_is_damaged_names_none_and_is_replaced(folder: Path) -> None:
    folder.mkdir()
    (folder / ".aliases").write_bytes(b"\xff\xfe=\n=\nx\n")
    assert choices.aliases() == {}
    ran("a=reka-edge")
    assert choices.aliases() == {"a": "reka-edge"}
