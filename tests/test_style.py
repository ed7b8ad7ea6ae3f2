"""The house's habits that no linter knows: sizes, names, words and addresses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
Function = ast.FunctionDef | ast.AsyncFunctionDef


def files(folder: str, pattern: str) -> list[Path]:
    found = (path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern) if path.is_file())
    return sorted(path for path in found if not any(part.startswith((".", "__pycache__")) for part in path.parts))


PACKAGED = [*files("edge", "*.py"), *files("export", "*.py")]
SCRIPTS = [path for path in files("scripts", "*") if path.suffix in ("", ".py", ".sh")]
TESTS = files("tests", "*.py")
SOURCES = [*PACKAGED, *(path for path in SCRIPTS if path.suffix == ".py"), *TESTS]
PROSE = [*(Path(path.name) for path in ROOT.glob("*.md")), *files("docs", "*.md"), *files("models", "*.md")]
CONFIGURATION = [Path("pyproject.toml"), *files("models", "*.toml")]

FILE_LINES, LONG_FILE_LINES, BODY_LINES, BODY_MEDIAN = 400, 600, 60, 8  # long: tests, and tables of the scripts
VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "misc", "core", "manager"}
HOSTS = {
    "127.0.0.1", "api.reka.ai", "edge", "example.com", "github.com", "keepachangelog.com", "localhost", "semver.org",
    "www.apache.org", "www.w3.org",  # the latter names SVG; nothing is fetched from it
}  # fmt: skip


def text(path: Path) -> str:
    return (ROOT / path).read_text("utf-8")


def functions(path: Path) -> Iterator[Function]:
    return (node for node in ast.walk(ast.parse(text(path))) if isinstance(node, Function))


def body_lines(function: Function) -> int:
    """Lines from the first statement after the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    return int(body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def signature(function: Function) -> str:
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    notes = [*(argument.annotation for argument in arguments), function.returns]
    return " ".join(ast.unparse(note) for note in notes if note is not None)


def matches(paths: Iterable[Path], pattern: str) -> list[str]:
    """Every match with its file, for the message of a failing test."""
    return [f"{path}: {found.group()}" for path in paths for found in re.finditer(pattern, text(path))]


def test_files_are_short_enough_to_read() -> None:
    most = {path: FILE_LINES if path in PACKAGED else LONG_FILE_LINES for path in SOURCES}
    assert not {str(path): n for path in SOURCES if (n := text(path).count("\n")) > most[path]}


def test_functions_fit_on_a_screen() -> None:
    lines = {f"{path}: {function.name}": body_lines(function) for path in SOURCES for function in functions(path)}
    assert not {function: n for function, n in lines.items() if n > BODY_LINES}


def test_half_of_all_functions_are_a_few_lines() -> None:
    assert median(body_lines(function) for path in PACKAGED for function in functions(path)) <= BODY_MEDIAN


def test_files_are_named_for_what_they_hold() -> None:
    assert not [str(path) for path in SOURCES if path.stem in VAGUE]


def test_modules_say_what_they_are_in_a_sentence() -> None:
    words = {str(path): ast.get_docstring(ast.parse(text(path))) or "" for path in SOURCES if text(path).strip()}
    assert not [path for path, said in words.items() if not said.split("\n\n")[0].rstrip().endswith((".", ":"))]


def test_public_signatures_have_no_any() -> None:
    public = ((path, function) for path in PACKAGED for function in functions(path) if function.name[0] != "_")
    assert not [f"{path}: {function.name}" for path, function in public if re.search(r"\bAny\b", signature(function))]


def called(path: Path) -> Iterator[str]:
    """What a file calls, as it is written there."""
    return (ast.unparse(node.func) for node in ast.walk(ast.parse(text(path))) if isinstance(node, ast.Call))


def test_nothing_is_validated_by_an_assert() -> None:
    trees = {str(path): ast.parse(text(path)) for path in PACKAGED}
    assert not [path for path, tree in trees.items() if any(isinstance(node, ast.Assert) for node in ast.walk(tree))]


def test_nothing_that_is_read_is_run() -> None:
    running = {"eval", "exec", "compile", "torch.load", "register_custom_ops_library"}
    found = {(str(path), name) for path in PACKAGED for name in called(path)}
    assert not [
        (path, name) for path, name in found if name in running or name.endswith(".register_custom_ops_library")
    ]
    assert not matches(
        PACKAGED, r"^\s*(?:import|from) (?:pickle|marshal|shelve|jinja2)\b|trust_remote_code|allow_pickle"
    )


def test_what_is_timed_is_timed_by_a_clock_that_never_goes_back() -> None:
    wall = ("time.time", "datetime.now", "datetime.utcnow", "datetime.today")
    found = {str(path) for path in PACKAGED for name in called(path) if name.endswith(wall)}
    # They show the time, or compare it with a file's: when an answer was made or seen, how old a killed export is.
    shown = {"edge/server/openai.py", "edge/server/ollama_writer.py", "edge/commands/watch.py"}
    shown |= {"edge/tools/builtin/clock.py"}
    shown |= {"edge/assistant/events.py"}
    assert found == shown | {"export/pack.py"}


def test_array_types_are_defined_in_one_module_of_each_package() -> None:
    defined = matches([path for path in PACKAGED if path.name != "arrays.py"], r"(?m)^[FIU]\d+ = npt\.NDArray.*")
    assert not defined


def test_nothing_is_left_to_do() -> None:
    mark = "|".join(("TO" + "DO", "FIX" + "ME", "X" * 3))
    assert not matches([*SOURCES, *SCRIPTS, *PROSE, *CONFIGURATION], rf"\b({mark})\b")


def test_addresses_are_of_known_hosts() -> None:
    known = "|".join(re.escape(host) for host in HOSTS)
    assert not matches([*PACKAGED, *SCRIPTS, *PROSE, *CONFIGURATION], rf"https?://(?!({known})\b)[\w.-]*\w")


def test_no_path_of_somebodys_machine() -> None:
    assert not matches([*SOURCES, *SCRIPTS, *PROSE, *CONFIGURATION], r"(?<![\w./])/(home|root|Users)/(?!pi\b)\w+")
