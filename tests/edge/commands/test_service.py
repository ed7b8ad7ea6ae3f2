"""`edge service`: options are checked before anything is written, only what is ours is replaced or removed."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge import cli
from edge.bundle.store import Stored, read_manifest
from edge.commands import installing, service_kinds
from edge.engine import providers
from edge.errors import ServiceError
from edge.service import files, systemctl
from edge.service.hardening import Uses
from edge.service.unit import Unit
from tests.edge.service import unit_files

Run = Callable[..., tuple[int, str, str]]
BUNDLE = Path(__file__).parents[3] / "models" / "reka-edge-tiny"
KEY = 'a "k3y" with \\ $HOME and 100%'

# Stands in for systemctl: it notes how it was called, and what it was told to do shows in what it says next.
SYSTEMCTL = """#!/bin/sh
here=$(dirname "$0")
[ "$1" = --version ] && { echo "systemd ${SYSTEMD_VERSION:-252} (test)"; exit 0; }
echo "$*" >> "$here/calls"
[ "$1" = --user ] && shift
[ -e "$here/broken" ] && { cat "$here/broken" >&2; exit 1; }
case "$1" in
show) cat "$here/state-$2" 2>/dev/null || echo LoadState=not-found ;;
restart) [ -e "$here/fails" ] && { echo "Job for $2 failed." >&2; exit 1; }
    printf 'LoadState=loaded\\nActiveState=active\\nSubState=running\\nStatusText=serving\\nUnitFileState=enabled\\nMainPID=7\\n' > "$here/state-$2" ;;
reset-failed) echo "nothing failed" >&2; exit 1 ;;
disable) rm -f "$here/state-$3" ;;
esac
exit 0
"""  # noqa: E501
JOURNALCTL = '#!/bin/sh\necho "journal: $*"\n'
LOGINCTL = '#!/bin/sh\necho "${LINGER:-no}"\n'


class Fake:
    """systemctl, journalctl and loginctl of a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, script in (("systemctl", SYSTEMCTL), ("journalctl", JOURNALCTL), ("loginctl", LOGINCTL)):
            (folder / name).write_text(script)
            (folder / name).chmod(0o755)

    @property
    def calls(self) -> list[str]:
        path = self.folder / "calls"
        return [line.removeprefix("--user ") for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def changes(self) -> list[str]:
        return [call for call in self.calls if call.split()[0] not in ("show", "show-environment")]

    def says(self, kind: str, **properties: str) -> None:
        lines = [f"{name}={value}" for name, value in {"LoadState": "loaded", **properties}.items()]
        (self.folder / f"state-edge-{kind}.service").write_text("\n".join(lines))


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path}/bin{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("XDG_CONFIG_HOME", f"{tmp_path}/config")
    monkeypatch.setenv("EDGE_MODELS", f"{tmp_path}/models")
    for name in ("EDGE_API_KEY", "EDGE_ALIAS", "EDGE_PACKED", "PYTHONPATH", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(files, "_SYSTEM_UNITS", tmp_path / "system")
    monkeypatch.setattr(files, "_SYSTEM_SECRETS", tmp_path / "secrets")
    monkeypatch.setattr(systemctl, "_BOOTED", tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(installing, "check_start", lambda unit: None)
    return Fake(tmp_path / "bin")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["edge", "service", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        done = capfd.readouterr()
        return int(caught.value.code or 0), done.out, done.err

    return call


def unit_of(tmp_path: Path, kind: str = "serve") -> Path:
    return tmp_path / "config" / "systemd" / "user" / f"edge-{kind}.service"


def arguments(text: str) -> list[str]:
    (line,) = unit_files.settings(text)["Service"]["ExecStart"]
    program, *rest = unit_files.command(line)
    assert program == sys.executable and rest[:3] == ["-P", "-m", "edge"]
    return rest[3:]


def environment(text: str) -> dict[str, str]:
    found = unit_files.settings(text)["Service"].get("Environment", [])
    return dict(word.split("=", 1) for value in found for word in unit_files.words(value))


def test_install_writes_the_unit_enables_and_starts_it(fake: Fake, run: Run, tmp_path: Path) -> None:
    code, out, err = run("install", "serve", "--", "--port", "9000", "--model", str(BUNDLE))
    assert (code, out) == (0, ""), err
    assert arguments(unit_of(tmp_path).read_text()) == ["serve", f"--model={BUNDLE}", "--port=9000"]
    assert fake.changes == ["daemon-reload", "enable edge-serve.service", "restart edge-serve.service"]
    assert all(line.startswith("--user ") for line in (fake.folder / "calls").read_text().splitlines())
    assert "serve: running; serving" in err and "loginctl enable-linger" in err


def test_who_lingers_already_is_not_told_to(fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINGER", "yes")
    assert "enable-linger" not in run("install", "serve")[2]


def test_without_start_it_is_only_enabled(fake: Fake, run: Run) -> None:
    assert run("install", "serve", "--no-start")[0] == 0
    assert fake.changes == ["daemon-reload", "enable edge-serve.service"]


def test_a_unit_of_the_system_is_not_the_users(fake: Fake, run: Run, tmp_path: Path) -> None:
    assert run("install", "serve", "--system", "--", "--model", str(BUNDLE))[0] == 0
    found = (tmp_path / "system" / "edge-serve.service").read_text()
    assert unit_files.settings(found)["Service"]["DynamicUser"] == ["yes"]
    assert environment(found)["XDG_CACHE_HOME"] == "/var/cache"
    assert not unit_of(tmp_path).exists()
    assert not any(line.startswith("--user") for line in (fake.folder / "calls").read_text().splitlines())


def test_dry_run_prints_the_unit_and_changes_nothing(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_API_KEY", KEY)
    code, out, _ = run("install", "serve", "--dry-run", "--", "--port", "9000")
    assert code == 0 and arguments(out) == ["serve", "--port=9000"]
    assert KEY not in out and not (tmp_path / "config").exists() and fake.calls == []


def test_dry_run_needs_no_systemd(run: Run, fake: Fake, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    code, out, _ = run("install", "serve", "--dry-run")
    assert code == 0 and out.startswith("# Made by edge service install")
    assert "RestartSteps" not in out


def test_the_unit_is_for_the_systemd_that_is_here(fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSTEMD_VERSION", "257")
    assert "RestartSteps=" in run("install", "serve", "--dry-run")[1]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("serve", "--", "--prot", "9000"), "edge serve: No such option: --prot"),
        (("serve", "--", "--port", "many"), "edge serve: Invalid value for '--port'"),
        (("serve", "--", "--port", "70000"), "edge serve: Invalid value for '--port'"),
        (("serve", "--", "stray"), "edge serve: Got unexpected extra argument"),
        (("serve", "--", "--limit", "imagse=3"), "imagse"),
        (("serve", "--", "--alias", "nothing"), "--alias"),
        (("serve", "--", "--host", "0.0.0.0"), "give a key"),
        (("serve", "--", "--media-folder", "/no/such/folder"), "no such folder"),
        (("serve", "--", "--api-key-file", "/no/such/file"), "--api-key-file"),
        (("serve", "--", "--model", "no-such-model"), "no-such-model"),
        (("serve", "--", "--tls-cert", "/no/cert"), "TLS needs both"),
        (("watch",), "edge watch: Missing argument"),
        (("watch", "--", "Who?", "--every", "5x"), "--every '5x'"),
        (("watch", "--", "Who?", "--camera", "-"), "no standard input"),
        (("chat",), "'chat' cannot be a service: expected assistant, serve or watch"),
    ],
)
def test_an_option_that_is_wrong_is_refused_before_anything_is_written(
    asked: tuple[str, ...], words: str, fake: Fake, run: Run, tmp_path: Path
) -> None:
    code, out, err = run("install", *asked)
    assert code != 0 and words in " ".join(err.split()), err
    assert not (tmp_path / "config").exists() and fake.changes == [] and out == ""


def test_options_without_the_dashes_before_them_are_refused(fake: Fake, run: Run, tmp_path: Path) -> None:
    assert run("install", "serve", "--port", "9000")[0] == 2
    assert not (tmp_path / "config").exists()


def test_help_of_the_command_installs_nothing(fake: Fake, run: Run, tmp_path: Path) -> None:
    run("install", "serve", "--", "--help")
    assert not (tmp_path / "config").exists() and fake.changes == []


def test_reading_options_changes_no_variable(fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_MEMORY_CHECK", raising=False)
    code, out, _ = run("install", "serve", "--dry-run", "--", "--no-memory-check")
    assert code == 0 and arguments(out) == ["serve", "--no-memory-check"]
    assert "EDGE_MEMORY_CHECK" not in os.environ


QUESTION = 'Is "she" here? 100% sure;\n$HOME \\ -- é'


def test_arguments_arrive_as_they_were_typed(fake: Fake, run: Run) -> None:
    _, out, _ = run("install", "watch", "--dry-run", "--", "--system", "-x --every=1h", QUESTION, "--every", "500ms")
    assert arguments(out) == ["watch", "--every=500ms", "--system=-x --every=1h", "--", QUESTION]


def test_paths_no_longer_depend_on_the_folder(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pictures").mkdir()
    (tmp_path / "key").write_text("k3y\n")
    (tmp_path / "bundle").symlink_to(BUNDLE)
    options = ("--media-folder", "pictures", "--api-key-file", "key", "--model", "./bundle")
    _, out, err = run("install", "serve", "--dry-run", "--", *options)
    expected = {f"--model={tmp_path}/bundle", f"--media-folder={tmp_path}/pictures", f"--api-key-file={tmp_path}/key"}
    assert expected < set(arguments(out)), err
    (tmp_path / "door.png").write_bytes(b"")
    _, out, _ = run("install", "watch", "--dry-run", "--", "Who?", "--camera", "door.png")
    assert f"--camera={tmp_path}/door.png" in arguments(out)
    _, out, _ = run("install", "watch", "--dry-run", "--", "Who?", "--camera", "videotestsrc ! videoconvert")
    assert "--camera=videotestsrc ! videoconvert" in arguments(out)


def test_an_id_of_a_model_stays_a_name(fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "reka-edge-tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert arguments(run("install", "serve", "--dry-run", "--", "--model", "reka-edge-tiny")[1]) == [
        "serve", "--model=reka-edge-tiny",
    ]  # fmt: skip


@pytest.mark.parametrize("given", ["variable", "option"])
def test_a_key_is_in_a_file_of_its_own(
    given: str, fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if given == "variable":
        monkeypatch.setenv("EDGE_API_KEY", KEY)
    options = ("--api-key", KEY) if given == "option" else ()
    os.umask(old := os.umask(0))
    try:
        code, _, err = run("install", "serve", "--", "--host", "0.0.0.0", *options)
    finally:
        os.umask(old)
    secrets = tmp_path / "config" / "edge" / "serve.env"
    text = unit_of(tmp_path).read_text()
    assert code == 0 and unit_files.environment(secrets.read_text()) == {"EDGE_API_KEY": KEY}
    assert stat.S_IMODE(secrets.stat().st_mode) == 0o600
    assert arguments(text) == ["serve", "--host=0.0.0.0"] and "k3y" not in text and "k3y" not in err
    assert unit_files.settings(text)["Service"]["EnvironmentFile"] == [f"-{secrets}"]


def test_a_key_stays_when_the_service_is_installed_again_without_it(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_API_KEY", KEY)
    run("install", "serve")
    monkeypatch.delenv("EDGE_API_KEY")
    code, _, err = run("install", "serve", "--", "--host", "0.0.0.0")  # refused without a key
    assert code == 0, err
    secrets = tmp_path / "config" / "edge" / "serve.env"
    assert unit_files.environment(secrets.read_text()) == {"EDGE_API_KEY": KEY}
    assert "EDGE_API_KEY" not in os.environ


def test_variables_of_headers_are_in_the_file_of_secrets(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", KEY)
    hook = ("--webhook", "http://127.0.0.1:1/", "--webhook-header", "Authorization: Bearer ${HOOK_TOKEN}")
    code, _, err = run("install", "watch", "--", "Who?", *hook)
    text, secrets = unit_of(tmp_path, "watch").read_text(), tmp_path / "config" / "edge" / "watch.env"
    assert code == 0, err
    assert "--webhook-header=Authorization: Bearer ${HOOK_TOKEN}" in arguments(text) and "k3y" not in text
    assert unit_files.environment(secrets.read_text()) == {"HOOK_TOKEN": KEY}
    assert unit_files.settings(text)["Service"]["EnvironmentFile"] == [f"-{secrets}"]
    monkeypatch.delenv("HOOK_TOKEN")
    assert run("install", "watch", "--", "Where?", *hook)[0] == 0  # it is kept
    assert unit_files.environment(secrets.read_text()) == {"HOOK_TOKEN": KEY}
    code, _, err = run("install", "watch", "--", "Who?", *hook[:3], "X-Other: ${OTHER_TOKEN}")
    assert code == 1 and "OTHER_TOKEN is not set" in err
    assert run("remove")[0] == 0 and not secrets.exists()


def test_a_system_service_does_not_see_the_folder_in_which_it_was_installed(fake: Fake, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    command = [sys.executable, "-m", "edge", "service", "install", "serve", "--system", "--dry-run"]
    checkout = str(Path(__file__).parents[3])
    environment = {**os.environ, "PYTHONPATH": checkout, "EDGE_MODELS": str(tmp_path)}
    done = subprocess.run(command, cwd=tmp_path / "home", env=environment, capture_output=True, text=True, check=True)
    assert str(tmp_path / "home") not in done.stdout


def test_the_manager_reads_the_secret_files_of_a_system_service(fake: Fake, run: Run, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("k3y\n")
    _, out, err = run("install", "serve", "--system", "--dry-run", "--", "--api-key-file", str(tmp_path / "key"))
    assert "--api-key-file=/run/credentials/edge-serve.service/api-key" in arguments(out), err
    assert unit_files.settings(out)["Service"]["LoadCredential"] == [f"api-key:{tmp_path}/key"]


def test_variables_that_decide_what_is_served_go_along(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EDGE_ALIAS", "a b=reka-edge-tiny")
    monkeypatch.setenv("EDGE_PACKED", "off")
    monkeypatch.setenv("SOMETHING_ELSE", "1")
    found = environment(run("install", "serve", "--dry-run")[1])
    expected = {"EDGE_ALIAS": "a b=reka-edge-tiny", "EDGE_PACKED": "off", "EDGE_MODELS": str(tmp_path / "models")}
    assert found == expected


def test_a_system_service_sees_the_folders_that_it_is_told_of(fake: Fake, run: Run, tmp_path: Path) -> None:
    bundle = tmp_path / "my bundle"
    bundle.symlink_to(BUNDLE)
    _, out, _ = run("install", "serve", "--system", "--dry-run", "--", "--model", str(bundle))
    shown = [unit_files.words(value)[0] for value in unit_files.settings(out)["Service"]["BindReadOnlyPaths"]]
    hidden = ("/home/", "/root/", "/tmp/", "/var/tmp/")
    if str(tmp_path).startswith(hidden):
        assert str(bundle) in shown
    assert all(path.startswith(hidden) for path in shown)
    for needed in (sys.prefix, sys.base_prefix):
        is_seen = any(Path(needed).is_relative_to(path) for path in shown)
        assert is_seen or not needed.startswith(hidden)


def test_memory_is_limited_unless_the_model_needs_about_all(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge.engine import available
    from edge.engine.available import Memory

    monkeypatch.setattr(available, "memory", lambda: Memory(8 << 30, 6 << 30))
    (limit,) = unit_files.settings(run("install", "serve", "--dry-run")[1])["Service"]["MemoryMax"]
    assert 7000 < int(limit.removesuffix("M")) < 8192
    monkeypatch.setattr(available, "memory", lambda: Memory(1 << 30, 1 << 29))
    _, out, err = run("install", "serve", "--dry-run", "--", "--slots", "16", "--context", "4096", "--kv", "fp32")
    assert "MemoryMax" not in out and "no limit of memory" in err


def test_a_service_that_computes_on_a_gpu_is_not_kept_from_it(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(providers, "check_available", lambda *_, **__: None)
    _, out, err = run("install", "serve", "--system", "--dry-run", "--", "--providers", "cuda,cpu")
    assert "--providers=cuda,cpu" in arguments(out), err
    assert "PrivateDevices" not in out and "SupplementaryGroups=" in out
    assert "PrivateDevices=yes" in run("install", "serve", "--system", "--dry-run")[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("talk",), "edge assistant talk: expected options of edge assistant alone"),
        (("--silence", "0"), "silence_s"),
        (("--once",), "a service goes on"),
        (("--microphone", "-"), "no standard input or output"),
        (("--vad", "none"), "Invalid value for '--vad'"),
        ((), "does not accept audio"),  # the included model, without a speech-to-text model
    ],
)
def test_an_assistant_that_could_not_start_is_not_installed(
    options: tuple[str, ...], words: str, fake: Fake, run: Run, tmp_path: Path
) -> None:
    code, _, err = run("install", "assistant", "--", "--wake", "none", *options)
    assert code != 0 and words in " ".join(err.split()), err
    assert not (tmp_path / "config").exists() and fake.changes == []


def test_an_assistant_has_its_devices_and_its_socket(fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_kinds, "chosen", lambda name, needs: Stored(BUNDLE, read_manifest(BUNDLE), False))
    _, out, err = run("install", "assistant", "--system", "--dry-run", "--", "--wake", "none", "--camera", "0")
    assert arguments(out) == ["assistant", "--wake=none", "--camera=0"], err
    found = unit_files.settings(out)["Service"]
    assert found["RuntimeDirectory"] == ["edge-assistant"] and "char-alsa rw" in found["DeviceAllow"]


def test_what_others_wrote_is_left_as_it_is(fake: Fake, run: Run, tmp_path: Path) -> None:
    path = unit_of(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text("[Service]\nExecStart=/bin/true\n")
    for asked in (("install", "serve"), ("remove", "serve")):
        code, _, err = run(*asked)
        assert code == 1 and "was not made by edge service install" in err
    assert path.read_text() == "[Service]\nExecStart=/bin/true\n" and fake.changes == []


def test_a_masked_unit_stays_masked(fake: Fake, run: Run, tmp_path: Path) -> None:
    path = unit_of(tmp_path)
    path.parent.mkdir(parents=True)
    path.symlink_to("/dev/null")
    code, _, err = run("install", "serve")
    assert code == 1 and "masked" in err and path.is_symlink() and fake.changes == []


def test_a_unit_of_a_package_is_not_stood_in_for(fake: Fake, run: Run, tmp_path: Path) -> None:
    fake.says("serve", FragmentPath="/usr/lib/systemd/user/edge-serve.service")
    code, _, err = run("install", "serve")
    assert code == 1 and "/usr/lib/systemd/user/edge-serve.service" in err and not unit_of(tmp_path).exists()


def test_secrets_that_others_wrote_are_left_as_they_are(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secrets = tmp_path / "config" / "edge" / "serve.env"
    secrets.parent.mkdir(parents=True)
    secrets.write_text("OTHER=1\n")
    monkeypatch.setenv("EDGE_API_KEY", KEY)
    assert run("install", "serve")[0] == 1
    assert secrets.read_text() == "OTHER=1\n" and not unit_of(tmp_path).exists()


def test_installing_again_replaces_our_own(fake: Fake, run: Run, tmp_path: Path) -> None:
    run("install", "serve", "--", "--port", "9000")
    assert run("install", "serve", "--", "--port", "9001")[0] == 0
    assert arguments(unit_of(tmp_path).read_text()) == ["serve", "--port=9001"]
    assert [path.name for path in unit_of(tmp_path).parent.iterdir()] == ["edge-serve.service"]


def test_a_start_that_fails_is_told_with_the_last_lines_of_the_log(fake: Fake, run: Run, tmp_path: Path) -> None:
    (fake.folder / "fails").touch()
    fake.says(
        "serve", ActiveState="failed", SubState="failed", Result="exit-code", ExecMainCode="1", ExecMainStatus="1"
    )
    code, _, err = run("install", "serve")
    assert code == 1 and "journal: --user-unit=edge-serve.service" in err
    assert "it ended with status 1: the log says why" in err and unit_of(tmp_path).exists()


def test_remove_stops_it_and_leaves_nothing_of_it(
    fake: Fake, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGE_API_KEY", KEY)
    run("install", "serve")
    code, _, err = run("remove")
    assert code == 0, err
    assert fake.changes[-3:] == [
        "disable --now edge-serve.service", "reset-failed edge-serve.service", "daemon-reload",
    ]  # fmt: skip
    assert [path for path in (tmp_path / "config").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("word", ["remove", "logs"])
def test_what_is_not_installed_can_be_neither_removed_nor_read(word: str, fake: Fake, run: Run) -> None:
    code, _, err = run(word)
    assert code == 1 and "no service is installed" in err


def test_of_several_services_one_has_to_be_named(fake: Fake, run: Run) -> None:
    run("install", "serve")
    run("install", "watch", "--", "Who?")
    code, _, err = run("remove")
    assert code == 1 and "serve" in err and "watch" in err
    assert run("remove", "watch")[0] == 0
    assert run("remove")[0] == 0


@pytest.mark.parametrize(
    ("properties", "code", "words"),
    [
        ({"ActiveState": "active", "SubState": "running", "StatusText": "serving tiny"}, 0, "running; serving tiny"),
        ({"ActiveState": "activating", "SubState": "start", "StatusText": "loading"}, 0, "starting; loading"),
        ({"ActiveState": "inactive", "Result": "success", "StatusText": "serving"}, 3, "stopped; starts by itself"),
        ({"ActiveState": "failed", "Result": "watchdog"}, 3, "failed; the watchdog ended it"),
        ({"ActiveState": "failed", "Result": "oom-kill"}, 3, "it took too much memory"),
        ({"ActiveState": "failed", "Result": "start-limit-hit"}, 3, "failed too often"),
        ({"ActiveState": "failed", "Result": "signal", "ExecMainCode": "2", "ExecMainStatus": "9"}, 3, "signal 9"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "2"}, 3, "options"),
        ({"ActiveState": "failed", "Result": "exit-code", "ExecMainCode": "1", "ExecMainStatus": "226"}, 3, "226"),
        (
            {"ActiveState": "activating", "SubState": "auto-restart", "Result": "timeout", "NRestarts": "2"},
            0,
            "restarting; it took too long to start or to stop; started again 2 times",
        ),
    ],
)
def test_status_says_what_it_does_in_words(
    properties: dict[str, str], code: int, words: str, fake: Fake, run: Run
) -> None:
    fake.says("serve", UnitFileState="enabled", **properties)
    found, out, _ = run("status")
    assert found == code and out.startswith("serve: ") and words in out and "starts by itself" in out


def test_status_of_what_is_not_installed(fake: Fake, run: Run) -> None:
    code, out, err = run("status")
    assert (code, out) == (4, "") and "edge service install" in err
    assert run("status", "watch")[0] == 4


def test_status_as_json(fake: Fake, run: Run) -> None:
    fake.says(
        "serve", ActiveState="active", MainPID="77", MemoryCurrent="1000000", NRestarts="1", UnitFileState="disabled"
    )
    fake.says("watch", ActiveState="active", MainPID="78", MemoryCurrent="[not set]")
    code, out, _ = run("status", "--json")
    serve, watch = json.loads(out)
    assert code == 0 and (serve["service"], serve["state"], serve["pid"], serve["memory_bytes"]) == (
        "serve", "running", 77, 1000000,
    )  # fmt: skip
    assert (serve["n_restarts"], serve["is_enabled"], watch["memory_bytes"]) == (1, False, None)


def test_logs_are_those_of_the_service(fake: Fake, run: Run) -> None:
    run("install", "serve")
    assert run("logs")[1] == "journal: --user-unit=edge-serve.service --lines 50\n"
    assert run("logs", "serve", "-f", "-n", "5")[1] == "journal: --user-unit=edge-serve.service --lines 5 --follow\n"
    assert run("logs", "serve", "--system")[1].startswith("journal: --unit=edge-serve.service")


@pytest.mark.parametrize("word", [("install", "serve"), ("status",), ("remove", "serve"), ("logs", "serve")])
def test_without_systemd_each_command_says_so(
    word: tuple[str, ...], fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unit_of(tmp_path).parent.mkdir(parents=True)
    unit_of(tmp_path).write_text("# Made by edge service install, and made anew by the next one. Changes of your own:")
    run("install", "serve", "--no-start")
    monkeypatch.setenv("PATH", "/nowhere")
    code, _, err = run(*word)
    assert code == 1 and "is not installed: services need systemd" in err


def test_a_system_that_systemd_did_not_boot_is_named(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(systemctl, "_BOOTED", tmp_path / "nothing")
    (fake.folder / "broken").write_text("Failed to connect to bus: No medium found")
    code, _, err = run("install", "serve")
    assert code == 1 and "not booted with systemd" in err and not (tmp_path / "config").exists()


def test_a_user_without_a_session_is_told_how_to_get_one(fake: Fake, run: Run, tmp_path: Path) -> None:
    (fake.folder / "broken").write_text("Failed to connect to bus: $XDG_RUNTIME_DIR not defined")
    code, _, err = run("install", "serve")
    assert code == 1 and "log in as this user, or use --system" in err and not (tmp_path / "config").exists()


def test_a_user_without_a_name_is_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_001)
    assert systemctl.user_name() == "4000000001"


def test_a_service_of_the_system_needs_root(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for word in ("install", "remove"):
        code, _, err = run(word, "serve", "--system")
        assert code == 1 and "sudo" in err and sys.executable in err
    assert not (tmp_path / "system").exists()


def test_a_python_that_finds_no_edge_without_this_shell_is_refused(
    fake: Fake, run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    unit = Unit("serve", "user", tmp_path / "python", (), Uses())
    (tmp_path / "python").write_text('#!/bin/sh\necho "No module named edge" >&2\nexit 1\n')
    (tmp_path / "python").chmod(0o755)
    with pytest.raises(ServiceError, match="No module named edge"):
        installing.check_start(unit)


def test_shells_complete_kinds() -> None:
    asked = {**os.environ, "_EDGE_COMPLETE": "complete_bash", "COMP_WORDS": "edge service install ", "COMP_CWORD": "3"}
    code = "import sys; sys.argv[0] = 'edge'; from edge.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], env=asked, capture_output=True, text=True, check=False)
    assert {"assistant", "serve", "watch"} <= set(done.stdout.split())


def test_a_watch_and_an_assistant_need_no_extra_of_the_server(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('httpx', 'python_multipart', 'starlette', 'uvicorn'): sys.modules[name] = None\n"
        "from edge.cli import main\n"
        "main()\n"
    )
    start = [sys.executable, "-c", code, "service", "install", "--dry-run"]
    environment = {**os.environ, "EDGE_MODELS": str(tmp_path)}
    done = subprocess.run(
        [*start, "watch", "--", "Is anyone there?"], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert "edge watch" in done.stdout
    done = subprocess.run([*start, "serve"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 1
    assert done.stderr.startswith("edge: edge serve needs ") and "pip install '.[server]'" in done.stderr
