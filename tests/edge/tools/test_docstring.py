"""Docstrings are taken apart in each of the three forms that are in use, and whatever else they say stays text."""

import pytest

from edge.tools.docstring import documented

GOOGLE = """Set the light.

    In one room.

    Args:
        room (str): The room, such as
            the kitchen.
        level (Optional[Dict[str, int]]): How bright: 0 to 100
        *rest: More.

    Returns:
        level: no parameter
    """
NUMPY = """Set the light.

    In one room.

    Parameters
    ----------
    room : str
        The room, such as
        the kitchen.
    level, other : {'a', 'b'}, optional
        How bright: 0 to 100

    Returns
    -------
    level : int
        no parameter
    """
REST = """Set the light.

    In one room.

    :param room: The room, such as
        the kitchen.
    :type room: str
    :param int level: How bright: 0 to 100
    :returns: no parameter
    """


@pytest.mark.parametrize("docstring", [GOOGLE, NUMPY, REST])
def test_each_form_says_the_same(docstring: str) -> None:
    said = documented(docstring)
    assert said.text == "Set the light.\n\nIn one room."
    assert said.parameters["room"] == "The room, such as the kitchen."
    assert said.parameters["level"] == "How bright: 0 to 100"


def test_names_that_share_a_line_share_its_text() -> None:
    assert documented(NUMPY).parameters["other"] == documented(NUMPY).parameters["level"]


@pytest.mark.parametrize(
    "docstring", [None, "", "   ", "Only text: with a colon.", "Example: this\nmore", "Args: none"]
)
def test_what_has_no_sections_is_text(docstring: str | None) -> None:
    said = documented(docstring)
    assert said.text == (docstring or "").strip() and said.parameters == {}


def test_text_behind_a_section_is_text_again() -> None:
    said = documented("One.\n\nArgs:\n    a: first\n\nTwo.")
    assert said.text == "One.\n\nTwo." and said.parameters == {"a": "first"}


def test_a_section_that_is_empty_says_nothing() -> None:
    assert documented("One.\n\nArgs:").parameters == {}
    assert documented("One.\n\nParameters\n----------").parameters == {}
