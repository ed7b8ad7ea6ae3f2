"""A guess of what a pattern matches: it does match, is short, and comes at once; or there is none."""

import re
import time

import pytest

from edge.engine.grammar.pattern import match_of
from tests.edge.asking import HANGS_S


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("", ""),
        ("abc", "abc"),
        ("^abc$", "abc"),
        ("a.c", "aac"),
        ("colou?r", "color"),
        ("x*y+z?", "y"),
        ("[a-f]{3}", "aaa"),
        ("[^a-z]", "0"),
        ("[^a0 A_]", "-"),
        ("[]x]", "]"),
        ("[a\\-z]", "a"),
        ("[-a]", "-"),
        ("[\\d]", "0"),
        ("\\d{4}-\\d\\d", "0000-00"),
        ("\\w+@\\w+\\.com", "a@a.com"),
        ("(red|green|blue)", "red"),
        ("(?:long|x)+", "x"),
        ("(long|)", ""),
        ("a|bb|", ""),
        ("a{2,}b{0,5}c{1,2}", "aac"),
        ("(ab){2}", "abab"),
        ("a+?b", "ab"),
        ("\\u0041\\x42", "AB"),
        ("\\.\\*\\n", ".*\n"),
        ("\\bword\\b", "word"),
        ("{", None),
        ("é+", "é"),
    ],
)
def test_the_guess(pattern: str, text: str | None) -> None:
    assert match_of(pattern) == text or (text is None and match_of(pattern) in (None, pattern))
    if text is not None:
        assert re.search(pattern, text)


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "a)", "[a", "[", "(?=a)b", "(?<name>a)", "(?!a)", "a{", "a{x}", "\\u00", "\\xzz", "(a|b", "\\"],
)
def test_what_is_not_understood_has_none(pattern: str) -> None:
    assert match_of(pattern) is None


@pytest.mark.parametrize(("pattern", "is_guessed"), [("a{4096}", True), ("a{4097}", False), ("(a{100}){41}", False)])
def test_a_guess_has_a_greatest_length(pattern: str, is_guessed: bool) -> None:
    assert (match_of(pattern) is not None) == is_guessed


@pytest.mark.parametrize(
    "pattern", ["(" * 100_000, "(" * 500 + "a" + ")" * 500, "((((a{4096}){4096}){4096}){4096}){4096}", "[" * 100_000]
)
def test_a_hostile_pattern_takes_no_time(pattern: str) -> None:
    began_s = time.process_time()
    match_of(pattern)
    assert time.process_time() - began_s < HANGS_S
