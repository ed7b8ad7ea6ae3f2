"""English texts as they are read aloud: numbers, units, money, dates, times and signs as words."""

from __future__ import annotations

import random
import re
import string

import pytest

from edge.speech.english.numerals import cardinal, ordinal, year
from edge.speech.english.reading import read
from tests.edge.espeak import needs_espeak, phonemes

READ = {
    "5–7 p.m. and 5-7pm": "five to seven p m and five to seven p m",
    "At 5pm.": "At five p m.",
    "H.264": "H.264",
    "90 s, the 90s and early 60s": "ninety seconds, the nineties and early sixties",
    "Call 911 or +49 30 123456": "Call nine one one or plus four nine, three zero, one two three four five six",
    "50/50": "fifty fifty",
    "2-3 min. on a Pi, 5 lbs., 6 oz. left": "two to three minutes on a Pi, five pounds, six ounces left",
    "w/ 8GB @ 2.4 GHz w/o a fan": "with eight gigabytes at two point four gigahertz without a fan",
    "up from $2.8bn in Q3 2023": "up from two point eight billion dollars in Q3 twenty twenty-three",
    "It costs $100–200.": "It costs one hundred to two hundred dollars.",
    "E = mc² and x > 5": "E equals mc squared and x more than five",
    "It weighs 5 kg.": "It weighs five kilograms.",
    "Pi is 3.14.": "Pi is three point one four.",
    "1,234,567 people": "one million two hundred and thirty-four thousand five hundred and sixty-seven people",
    "On May 3rd, 2024 at 14:30": "On May third, twenty twenty-four at fourteen thirty",
    "on 3 May 2024": "on the third of May, twenty twenty-four",
    "2024-05-03": "May third, twenty twenty-four",
    "12/25/2024": "December twenty-fifth, twenty twenty-four",
    "25/12/2024": "December twenty-fifth, twenty twenty-four",
    "3/5/2024": "three slash five slash twenty twenty-four",
    "In 1984 it was.": "In nineteen eighty-four it was.",
    "1984 people came.": "one thousand nine hundred and eighty-four people came.",
    "the 1990s and the '80s": "the nineteen nineties and the eighties",
    "from 1914–1918": "from nineteen fourteen to nineteen eighteen",
    "$5": "five dollars",
    "$1": "one dollar",
    "$3.50": "three dollars and fifty cents",
    "$0.99": "ninety-nine cents",
    "$1,234.56": "one thousand two hundred and thirty-four dollars and fifty-six cents",
    "$1.5 million": "one point five million dollars",
    "$5-10": "five to ten dollars",
    "$5–$10": "five to ten dollars",
    "5 €": "five euros",
    "€5": "five euros",
    "£2.20": "two pounds and twenty pence",
    "-$5": "minus five dollars",
    "5%": "five percent",
    "5-10%": "five to ten percent",
    "12.5 %": "twelve point five percent",
    "100 km/h": "one hundred kilometers per hour",
    "20°C": "twenty degrees Celsius",
    "-5 °C": "minus five degrees Celsius",
    "90°": "ninety degrees",
    "72°F": "seventy-two degrees Fahrenheit",
    "5'11\"": "five feet eleven inches",
    "6′ 2″": "six feet two inches",
    'a 27" monitor': "a twenty-seven inch monitor",
    "16 GB": "sixteen gigabytes",
    "512MB": "five hundred and twelve megabytes",
    "3.5 GHz": "three point five gigahertz",
    "1 kg": "one kilogram",
    "5–10 kg": "five to ten kilograms",
    "a 5-km run": "a five kilometer run",
    "9.81 m/s²": "nine point eight one meters per second squared",
    "25 m²": "twenty-five square meters",
    "30 tokens/s": "thirty tokens per second",
    "1st 2nd 3rd 21st 100th": "first second third twenty-first one hundredth",
    "1/2 cup": "one half cup",
    "3/4": "three quarters",
    "1 1/2 cups": "one and a half cups",
    "2½ hours": "two and a half hours",
    "½": "one half",
    "8/10": "eight out of ten",
    "24/7": "twenty-four seven",
    "World War II": "World War two",
    "Henry VIII died": "Henry the eighth died",
    "Chapter IV": "Chapter four",
    "I am Louis XIV.": "I am Louis the fourteenth.",
    "Mary I think so": "Mary I think so",
    "-5": "minus five",
    "−5 to −3": "minus five to minus three",
    "3 + 4 = 7": "three plus four equals seven",
    "10 - 3 = 7": "ten minus three equals seven",
    "5 × 3": "five times three",
    "1920x1080": "one thousand nine hundred and twenty by one thousand and eighty",
    "x = 5": "x equals five",
    "2^10": "two to the power of ten",
    "5²": "five squared",
    "10⁶": "ten to the power of six",
    "1e-5": "one times ten to the power of minus five",
    "6.02×10²³": "six point zero two times ten to the power of twenty-three",
    "GPT-4": "GPT-four",
    "COVID-19": "COVID-nineteen",
    "Python 3.11": "Python three point one one",
    "version 3.11.7": "version three point eleven point seven",
    "192.168.1.1": "one hundred and ninety-two dot one hundred and sixty-eight dot one dot one",
    "007": "zero zero seven",
    "555-1234": "five five five, one two three four",
    "+1 555-123-4567": "plus one, five five five, one two three, four five six seven",
    "9:05": "nine oh five",
    "12:00": "twelve o'clock",
    "5:30 p.m.": "five thirty p m",
    "5 pm": "five p m",
    "9:00–17:00": "nine o'clock to seventeen hundred",
    "10:30 AM": "ten thirty a m",
    "e.g. this": "for example, this",
    "i.e., that": "that is, that",
    "Dr. Smith vs. Mr. Jones etc.": "Doctor Smith versus Mister Jones et cetera",
    "No. 5": "number five",
    "Fig. 3": "figure three",
    "pp. 5–10": "pages five to ten",
    "#1": "number one",
    "~5 minutes": "about five minutes",
    "5+": "five plus",
    "<5": "less than five",
    "a 16:9 screen": "a sixteen to nine screen",
    "0.5": "zero point five",
    ".5": "zero point five",
    "1. Open it": "one, Open it",
    "R&D": "R and D",
    "B2B and 5G": "B2B and 5G",
    "3-2": "three to two",
    "5 min": "five minutes",
    "2 h 30 min": "two hours thirty minutes",
    "100 BC": "one hundred B C",
    "44 BC": "forty-four B C",
    "1 000 000 m": "one million meters",
    "€1.2bn": "one point two billion euros",
    "the 2024 election": "the twenty twenty-four election",
    "in 2024.": "in twenty twenty-four.",
    "1 mph": "one mile per hour",
    "3x faster": "three times faster",
    "It is 5 in the morning": "It is five in the morning",
    "Boeing 747-400": "Boeing seven hundred and forty-seven to four hundred",
    "1.5 L": "one point five liters",
    "8 bit": "eight bit",
    "7B model": "7B model",
    "a 12 MP camera": "a twelve megapixel camera",
    "20 000 €": "twenty thousand euros",
    "$20/month": "twenty dollars per month",
    "60 fps": "sixty frames per second",
    "(1984)": "(nineteen eighty-four)",
    "2,5": "two, five",
    "May I go?": "May I go?",
    "a 5 km run": "a five kilometer run",
    "1,2,3": "one, two, three",
    "1.2.3.4.5": "one point two point three point four point five",
    "a 5-year-old": "a five-year-old",
    "10 000 people": "ten thousand people",
    "5-in-1": "five-in-one",
    "It has 5, maybe 6.": "It has five, maybe six.",
    "3-4 weeks": "three to four weeks",
    "Windows 11 (23H2)": "Windows eleven (23H2)",
    "10%-20%": "ten to twenty percent",
    "5' tall": "five feet tall",
    "between 1990 and 2000": "between nineteen ninety and two thousand",
    "$1M": "one million dollars",
    "USD 5": "five dollars",
    "5 USD": "five dollars",
    "0.5%": "zero point five percent",
    "1.0 m": "one point zero meters",
    "at 7:00 am": "at seven a m",
    "00:00": "midnight",
    "23:59:59": "twenty-three fifty-nine and fifty-nine seconds",
    "12 inches": "twelve inches",
    "2nd": "second",
    "10^-3, 2^(-1)": "ten to the power of minus three, two to the power of minus one",
    "3-1=2, 5 - 3 = 2": "three minus one equals two, five minus three equals two",
    "0x1F, 640x480": "0x1F, six hundred and forty by four hundred and eighty",
    "1'000'000": "one million",
    "2021-07-04T12:30:00Z": "July fourth, twenty twenty-one, twelve thirty UTC",
    "at 2021-07-04T12:30+02:00": "at July fourth, twenty twenty-one, twelve thirty",
    "10:30-11:45": "ten thirty to eleven forty-five",
    "45°N, 7.5° W": "forty-five degrees north, seven point five degrees west",
    "(555) 123-4567": "five five five, one two three, four five six seven",
}


@pytest.mark.parametrize("written", READ)
def test_text_is_read_as(written: str) -> None:
    assert read(written, language="en") == READ[written]


@needs_espeak
@pytest.mark.parametrize(
    ("written", "words"),
    [
        ("It weighs 5 kg.", "It weighs five kilograms."),
        ("It costs $3.50.", "It costs three dollars and fifty cents."),
        ("In 1984 it was -5 °C.", "In nineteen eighty-four it was minus five degrees Celsius."),
        ("Drive at 100 km/h, 5-10 km.", "Drive at one hundred kilometers per hour, five to ten kilometers."),
        ("The 21st of 1,000 is 3/4 full.", "The twenty-first of one thousand is three quarters full."),
    ],
)
def test_digits_sound_as_their_words(written: str, words: str) -> None:
    assert phonemes(read(written, language="en")) == phonemes(words)


@needs_espeak
@pytest.mark.parametrize("n", [0, 7, 13, 20, 21, 99, 100, 101, 110, 999, 1000, 1001, 1100, 100_000, 1_000_000])
def test_numbers_sound_as_espeak_reads_their_digits(n: int) -> None:
    assert phonemes(f"{cardinal(str(n))} cats").replace("and", "@n") == phonemes(f"{n} cats").replace("and", "@n")


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", "three slash five slash twenty twenty-four"),
        ("en-US", "March fifth, twenty twenty-four"),
        ("en_GB", "May third, twenty twenty-four"),
    ],
)
def test_the_region_decides_which_number_is_the_month(language: str, words: str) -> None:
    assert read("3/5/2024", language=language) == words


@pytest.mark.parametrize(
    "word", ["I", "Mix", "CD", "MIX it", "Liv", "vitamin C", "Plan D", "mild", "Henry, I think", "X"]
)
def test_letters_that_may_be_words_are_no_roman_numerals(word: str) -> None:
    assert read(word, language="en") == word


@pytest.mark.parametrize(
    ("digits", "words"),
    [("1900", "nineteen hundred"), ("2000", "two thousand"), ("2005", "two thousand five"), ("1066", "ten sixty-six")],
)
def test_years_are_read_in_pairs(digits: str, words: str) -> None:
    assert year(digits) == words


def test_ordinals_change_the_last_word_alone() -> None:
    assert [ordinal(n) for n in ("1", "12", "20", "32", "105")] == [
        "first", "twelfth", "twentieth", "thirty-second", "one hundred and fifth",
    ]  # fmt: skip


def test_long_numbers_are_read_digit_by_digit() -> None:
    assert cardinal("1" * 19) == " ".join(["one"] * 19)
    assert cardinal("0012") == "zero zero one two"


def test_every_number_that_is_no_part_of_a_word_becomes_words() -> None:
    """Whatever stands around digits, none are left but those within words, and reading comes to an end."""
    chance = random.Random(5)
    signs = string.digits * 3 + "  .,:;/-–%$€£°'\"()+=^×xkgms²½#~<>" + "APMV"
    for _ in range(3000):
        text = "".join(chance.choices(signs, k=chance.randrange(1, 40)))
        assert not re.search(r"(?<![\w.,'’])[0-9]+(?![\w.,'’²³^°%])", read(text, language="en")), text


def test_words_without_digits_and_signs_stay_as_they_are() -> None:
    text = "The quick brown fox, as they say, jumps over the lazy dog; doesn't it? Yes (it does)!"
    assert read(text, language="en") == text
