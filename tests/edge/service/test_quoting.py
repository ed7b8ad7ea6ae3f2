"""Whatever an argument holds comes out of a unit file as it went in."""

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.errors import ParameterError
from edge.service import quoting
from tests.edge.service import unit_files

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
NASTY = st.text("%$\"'\\ \t\n\r;:#{}[]-=ntx0sé\x1b\x7f")


@given(st.lists(TEXT | NASTY))
@example([""])
@example(
    [
        ";",
        "\\;",
        "a ; b",
        "%%",
        "%n",
        "$HOME",
        "${HOME}",
        "a b",
        "a\nb",
        "\\",
        '"',
        "'",
        "\\x41",
        "--",
        "-",
        "# no comment",
    ]
)
def test_a_command_line_is_read_back_as_it_was(arguments: list[str]) -> None:
    line = quoting.command(Path("/usr/bin/python3"), arguments)
    assert "\n" not in line and "\r" not in line
    assert unit_files.command(line) == ["/usr/bin/python3", *arguments]


@pytest.mark.parametrize("program", ["/home/pi/my env/bin/python", "/srv/$x/100%/python", '/a"b/python', "/é/python"])
def test_a_program_may_be_anywhere(program: str) -> None:
    assert unit_files.command(quoting.command(Path(program), [])) == [program]


@given(TEXT | NASTY)
def test_a_variable_is_read_back_as_it_was(value: str) -> None:
    assert unit_files.words(quoting.assignment("EDGE_ALIAS", value)) == [f"EDGE_ALIAS={value}"]


@given(st.text(st.characters(codec="ascii", categories=["L", "N", "P", "S", "Zs"]), min_size=1))
@example('a"b\\c$d`e%f')
def test_a_secret_is_read_back_as_it_was(value: str) -> None:
    written = quoting.secret(value)
    assert unit_files.environment(f"EDGE_API_KEY={written}") == {"EDGE_API_KEY": value}
    assert quoting.unquoted(written) == value


def test_plain_words_are_not_quoted() -> None:
    line = quoting.command(Path("/usr/bin/python3"), ["-P", "--", "--host=0.0.0.0", "a/b.png"])
    assert line == ":/usr/bin/python3 -P -- --host=0.0.0.0 a/b.png"


@pytest.mark.parametrize("argument", ["a\0b", "\udcff"])
def test_what_no_unit_can_hold_is_refused(argument: str) -> None:
    with pytest.raises(ParameterError):
        quoting.command(Path("/usr/bin/python3"), [argument])


@pytest.mark.parametrize("secret", ["a\nb", "a\x1bb", "a\0b"])
def test_a_secret_of_several_lines_is_refused(secret: str) -> None:
    with pytest.raises(ParameterError):
        quoting.secret(secret)


def test_a_path_has_its_percents_doubled() -> None:
    assert quoting.path(Path("/srv/100% a b/k")) == "/srv/100%% a b/k"


@pytest.mark.parametrize("path", ["/a\nb", "/a ", "/a\\", "/a\tb"])
def test_a_path_that_a_setting_would_change_is_refused(path: str) -> None:
    with pytest.raises(ParameterError, match="rename"):
        quoting.path(Path(path))
