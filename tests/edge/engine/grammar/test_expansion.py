"""The size of regular expressions with their repeats written out, and how they are written for llguidance."""

import re

import pytest

from edge.engine.grammar.expansion import MAX_SHORTEST, MAX_STATES, PatternError, checked_pattern, size_of


@pytest.mark.parametrize(
    ("pattern", "n_states", "n_shortest"),
    [
        ("", 0, 0), ("abc", 3, 3), ("^a$", 1, 1), ("a|bcd", 4, 1), ("(a|bc)d", 4, 2), ("[a-z]{2,5}", 5, 2),
        ("a{3}", 3, 3), ("a{3,}", 3, 3), ("a*b+c?", 3, 1), ("(a{10}){10}", 100, 100), ("(a{0,9}){0,9}", 81, 0),
        ("a{,3}", 3, 0), ("a{x}", 4, 4), ("a{", 2, 2), ("\\d{4}-\\d\\d", 7, 7), ("\\u0041\\x41\\p{L}\\pN", 4, 4),
        ("(?:ab)+?", 2, 2), ("(?<n>a)(?P<m>b)", 2, 2), ("(?i)a", 1, 1), ("(?i:a)", 1, 1), ("[]a]", 1, 1),
        ("[^\\]\\\\]", 1, 1), ("\\^\\$\\.", 3, 3), ("(a{1000}){1000}", 1_000_000, 1_000_000), ("(|a)", 1, 0),
    ],
)  # fmt: skip
def test_the_size(pattern: str, n_states: int, n_shortest: int) -> None:
    assert size_of(pattern) == (n_states, n_shortest)


@pytest.mark.parametrize(
    "pattern",
    ["(", ")", "a)", "[", "[a", "[]", "\\", "*a", "a**", "a{2}{3}", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "\\bword\\b",
     "(a)\\1", "\\k<n>", "a{3,2}", "a{9999999999}", "(?x)a", "(?P=n)", "(?>a)", "\\u12", "\\xzz", "\\q", "(?", "(?i"],
)  # fmt: skip
def test_what_is_not_supported_is_refused(pattern: str) -> None:
    with pytest.raises((PatternError, IndexError)):
        size_of(pattern)
    with pytest.raises(SyntaxError, match="expected|not supported"):
        checked_pattern(pattern, SyntaxError)


@pytest.mark.parametrize(
    ("pattern", "written"),
    [("[a&&b]", "[a\\&\\&b]"), ("[[a]", "[\\[a]"), ("\\cA", "\\x01"), ("\\é", "é"), ("a{x}", "a\\{x}"),
     ("a{,3}", "a{0,3}"), ("\\Aa\\Z", "^a$"), ("\\/", "\\/"), ("[\\b]", "[\\x08]"), ("\\0", "\\x00")],
)  # fmt: skip
def test_what_rust_reads_otherwise_is_written_for_it(pattern: str, written: str) -> None:
    assert checked_pattern(pattern, SyntaxError) == written


@pytest.mark.parametrize("over", [0, 1])
@pytest.mark.parametrize(("most", "pattern"), [(MAX_SHORTEST, "a{%d}"), (MAX_STATES, "a{0,%d}")])
def test_the_largest_pattern(most: int, pattern: str, over: int) -> None:
    if not over:
        assert checked_pattern(pattern % most, SyntaxError) == pattern % most
        return
    with pytest.raises(SyntaxError, match=rf"at most {most} .*got.* {most + 1}"):
        checked_pattern(pattern % (most + over), SyntaxError)


@pytest.mark.parametrize(
    "pattern", ["(" * 100_000, "(" * 500 + "a" + ")" * 500, "(" * 99 + "a" + "{99999})" * 99, "[" * 100_000]
)
def test_a_hostile_pattern_is_refused_in_words(pattern: str) -> None:
    with pytest.raises(SyntaxError):
        checked_pattern(pattern, SyntaxError)


def test_a_written_pattern_matches_what_the_given_one_does() -> None:
    for pattern, text in (("[a&&b]+", "a&b"), ("a{x}", "a{x}"), ("a{,3}b", "aab"), ("[[a]", "[")):
        assert re.fullmatch(checked_pattern(pattern, SyntaxError), text)
