"""Numbers as English words."""

_SMALL = """
zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen
nineteen
"""
_ONES = _SMALL.split()
_TENS = ("", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
_THOUSANDS = ("", "thousand", "million", "billion", "trillion", "quadrillion")
_ORDINALS = {
    "one": "first", "two": "second", "three": "third", "five": "fifth", "eight": "eighth", "nine": "ninth",
    "twelve": "twelfth",
}  # fmt: skip
_MAX_DIGITS = 3 * len(_THOUSANDS)


def cardinal(digits: str, *, with_and: bool = True) -> str:
    """Return a whole number as words; digit by digit where it begins with a zero or has more than 18 of them.

    digits: decimal ones; with_and: "one hundred and five", as in British English.
    """
    if len(digits) > _MAX_DIGITS or (len(digits) > 1 and digits.startswith("0")):
        return spelled(digits)
    n = int(digits)
    if n == 0:
        return _ONES[0]
    words: list[str] = []
    for power in range(len(_THOUSANDS) - 1, -1, -1):
        group = n // 1000**power % 1000
        if group:
            is_small_rest = power == 0 and group < 100 and n > 999
            words += ["and"] * (with_and and is_small_rest) + _below_1000(group, with_and=with_and)
            words += [_THOUSANDS[power]] * (power > 0)
    return " ".join(words)


def spelled(digits: str) -> str:
    """Return digits one by one."""
    return " ".join(_ONES[int(digit)] for digit in digits)


def decimal(whole: str, fraction: str, *, with_and: bool = True) -> str:
    """Return a number with a point; whole: the digits in front of it, which may be none."""
    return f"{cardinal(whole or '0', with_and=with_and)} point {spelled(fraction)}"


def ordinal(digits: str, *, with_and: bool = True) -> str:
    """Return an ordinal number as words: "twenty-first"."""
    words = cardinal(digits, with_and=with_and)
    start, separator, last = words.rpartition("-" if "-" in words.rpartition(" ")[2] else " ")
    return f"{start}{separator}{_as_ordinal(last)}"


def year(digits: str) -> str:
    """Return a year of three or four digits as it is said: "nineteen eighty-four", "two thousand five"."""
    n = int(digits)
    century, rest = divmod(n, 100)
    if century % 10 == 0 and (rest < 10 or century < 10):
        return cardinal(str(n), with_and=False)
    if century == 0:
        return cardinal(str(n))
    if rest == 0:
        return f"{cardinal(str(century))} hundred"
    return f"{cardinal(str(century))} {'oh ' * (rest < 10)}{cardinal(str(rest))}"


def decade(digits: str) -> str:
    """Return years that share all but their last digit: "nineteen nineties"; digits: 4 of them, or 2."""
    return plural(year(digits) if len(digits) == 4 else cardinal(digits))


def plural(words: str) -> str:
    """Return the plural of words that end with a number."""
    if words.endswith("y"):
        return f"{words[:-1]}ies"
    return f"{words}es" if words.endswith("x") else f"{words}s"


def denominator(n: int, *, is_one: bool) -> str:
    """Return what a fraction's lower number is called: "half", "quarters", "eighths"."""
    if n == 2:
        return "half" if is_one else "halves"
    word = "quarter" if n == 4 else ordinal(str(n))
    return word if is_one else f"{word}s"


def _below_1000(n: int, *, with_and: bool) -> list[str]:
    hundreds, rest = divmod(n, 100)
    words = [_ONES[hundreds], "hundred"] if hundreds else []
    if rest:
        words += ["and"] * (with_and and hundreds > 0) + [_below_100(rest)]
    return words


def _below_100(n: int) -> str:
    if n < 20:
        return _ONES[n]
    tens, ones = divmod(n, 10)
    return _TENS[tens] + (f"-{_ONES[ones]}" if ones else "")


def _as_ordinal(word: str) -> str:
    if word in _ORDINALS:
        return _ORDINALS[word]
    return f"{word[:-1]}ieth" if word.endswith("y") else f"{word}th"
