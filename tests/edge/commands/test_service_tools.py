"""`edge service install` with receivers of changes and tools: checked first, found from any folder, secrets kept."""

import json
from pathlib import Path

import pytest

from tests.edge.commands import test_service
from tests.edge.commands.test_service import KEY, Fake, Run, arguments, unit_of
from tests.edge.service import unit_files

fake, run = test_service.fake, test_service.run


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("watch", "--", "Who?", "--webhook", "ftp://a/b"), "expected an address that begins with http"),
        (("watch", "--", "Who?", "--webhook-header", "A: b"), "expected --webhook beside it"),
        (("watch", "--", "Who?", "--webhook", "http://a", "--webhook-header", "A: \u00e4"), "expected ASCII"),
        (("watch", "--", "Who?", "--run", "no-such-command -t edge"), "there is no such command"),
        (("watch", "--", "Who?", "--run", "'logger"), "No closing quotation"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--tools", "time,magic"), "got 'magic'"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--tools", "camera"), "expected --camera beside it"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--tool", "gone.py:f"), "there is no file"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--tool", "f"), "expected FILE.py:NAME"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--mcp", "gone.json"), "No such file"),
        (("assistant", "--", "--wake", "none", "--speech", "x", "--allow-tool", "f"), "expected tools beside it"),
    ],
)
def test_receivers_and_tools_that_are_wrong_are_told_before_anything_is_written(
    options: tuple[str, ...], said: str, fake: Fake, run: Run, tmp_path: Path
) -> None:
    code, _, err = run("install", *options)
    assert code != 0 and said in err and not (tmp_path / "config").exists() and fake.changes == []


def test_paths_in_commands_and_of_tools_do_not_depend_on_a_folder(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("notify me.sh").write_text("#!/bin/sh\n")
    Path("notify me.sh").chmod(0o755)
    Path("lights.py").write_text("")
    _, out, err = run("install", "watch", "--system", "--dry-run", "--", "Who?", "--run", "'./notify me.sh' -t 'a b'")
    assert f"--run='{tmp_path}/notify me.sh' -t 'a b'" in arguments(out), err
    shown = [unit_files.words(value)[0] for value in unit_files.settings(out)["Service"]["BindReadOnlyPaths"]]
    assert f"{tmp_path}/notify me.sh" in shown or not str(tmp_path).startswith(("/home/", "/root/", "/tmp/"))
    _, out, err = run("install", "watch", "--dry-run", "--", "Who?", "--run", "sh -c 'echo $0'")
    assert "--run=sh -c 'echo $0'" in arguments(out), err
    tools = ("--tool", "lights.py:switch", "--tool", "json:dumps")
    _, out, err = run("install", "assistant", "--dry-run", "--", "--wake", "none", "--speech", "x", *tools)
    assert [f"--tool={tmp_path}/lights.py:switch", "--tool=json:dumps"] == arguments(out)[-2:], err


def test_variables_of_mcp_servers_are_in_the_file_of_secrets(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME_TOKEN", KEY)
    entry = {"url": "http://localhost:1/mcp", "headers": {"Authorization": "Bearer ${HOME_TOKEN}", "X-At": "${HOME}"}}
    (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"home": entry}}))
    options = ("--wake", "none", "--speech", "x", "--mcp", str(tmp_path / "servers.json"))
    code, _, err = run("install", "assistant", "--", *options)
    assert code == 0, err
    secrets = tmp_path / "config" / "edge" / "assistant.env"
    assert unit_files.environment(secrets.read_text()) == {"HOME_TOKEN": KEY}
    assert "k3y" not in unit_of(tmp_path, "assistant").read_text()
