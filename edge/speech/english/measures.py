"""Units and currencies as English words."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

# Sign, singular, plural where it is not the singular and an s.
_UNITS = """
km kilometer|m meter|cm centimeter|mm millimeter|µm micrometer|μm micrometer|nm nanometer|mi mile|ft foot feet|yd yard
kg kilogram|g gram|mg milligram|µg microgram|μg microgram|t ton|lb pound|lbs pound|oz ounce
L liter|l liter|ml milliliter|mL milliliter|cl centiliter|dl deciliter|gal gallon
h hour|hr hour|hrs hour|min minute|mins minute|s second|sec second|secs second|ms millisecond|µs microsecond
μs microsecond|ns nanosecond
KB kilobyte|kB kilobyte|MB megabyte|GB gigabyte|TB terabyte|PB petabyte
KiB kibibyte|MiB mebibyte|GiB gibibyte|TiB tebibyte|kbit kilobit|Mbit megabit|Gbit gigabit
kbps kilobit_per_second kilobits_per_second|Mbps megabit_per_second megabits_per_second
Gbps gigabit_per_second gigabits_per_second
Hz hertz hertz|kHz kilohertz kilohertz|MHz megahertz megahertz|GHz gigahertz gigahertz
W watt|kW kilowatt|MW megawatt|GW gigawatt|mW milliwatt|Wh watt_hour|kWh kilowatt_hour|MWh megawatt_hour
V volt|mV millivolt|kV kilovolt|mA milliamp|mAh milliamp_hour|Ah amp_hour|Ω ohm|kΩ kiloohm|MΩ megaohm
Pa pascal|hPa hectopascal|kPa kilopascal|MPa megapascal|bar bar bar|psi psi psi|atm atmosphere
J joule|kJ kilojoule|MJ megajoule|cal calorie|kcal kilocalorie|N newton|Nm newton_meter|kN kilonewton
dB decibel|px pixel|dpi dots_per_inch dots_per_inch|fps frame_per_second frames_per_second
rpm revolution_per_minute revolutions_per_minute|mph mile_per_hour miles_per_hour|ha hectare|lm lumen|lx lux lux
kph kilometer_per_hour kilometers_per_hour|kmh kilometer_per_hour kilometers_per_hour
°C degree_Celsius degrees_Celsius|℃ degree_Celsius degrees_Celsius|°F degree_Fahrenheit degrees_Fahrenheit
℉ degree_Fahrenheit degrees_Fahrenheit|° degree|% percent percent|‰ per_mille per_mille|MP megapixel|Mpx megapixel
""".replace("\n", "|")
_LENGTHS = ("km", "m", "cm", "mm", "mi", "ft", "yd", "in")
_INCH = ("inch", "inches")
_POWERS: Mapping[str, str] = MappingProxyType(
    {**dict.fromkeys(("²", "2", "^2"), "square"), **dict.fromkeys(("³", "3", "^3"), "cubic")}
)
# What may follow a slash, beside units.
PER: Mapping[str, str] = MappingProxyType(
    {
        "h": "hour", "hr": "hour", "hour": "hour", "s": "second", "sec": "second", "second": "second",
        "min": "minute", "minute": "minute", "day": "day", "d": "day", "week": "week", "month": "month", "mo": "month",
        "year": "year", "yr": "year", "s²": "second squared", "s2": "second squared", "s^2": "second squared",
        "person": "person", "capita": "capita",
        "kg": "kilogram", "g": "gram", "L": "liter", "l": "liter",
        "dL": "deciliter", "ml": "milliliter", "mL": "milliliter", "km": "kilometer", "m": "meter",
        "m²": "square meter", "m2": "square meter", "m³": "cubic meter", "m3": "cubic meter",
        "cm²": "square centimeter",
        "cm³": "cubic centimeter", "100 km": "one hundred kilometers", "100km": "one hundred kilometers",
        "mile": "mile", "token": "token", "request": "request", "frame": "frame", "tile": "tile", "step": "step",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Currency:
    """The names of a currency and of its hundredth part, which not every one has."""

    one: str
    many: str
    part: str = ""
    parts: str = ""


_DOLLAR = Currency("dollar", "dollars", "cent", "cents")
_EURO = Currency("euro", "euros", "cent", "cents")
_POUND = Currency("pound", "pounds", "penny", "pence")
CURRENCIES: Mapping[str, Currency] = MappingProxyType(
    {
        "$": _DOLLAR, "US$": _DOLLAR, "USD": _DOLLAR, "€": _EURO, "EUR": _EURO, "£": _POUND, "GBP": _POUND,
        "¥": Currency("yen", "yen"), "JPY": Currency("yen", "yen"), "CNY": Currency("yuan", "yuan"),
        "₹": Currency("rupee", "rupees", "paisa", "paise"), "INR": Currency("rupee", "rupees", "paisa", "paise"),
        "CHF": Currency("franc", "francs", "centime", "centimes"), "₩": Currency("won", "won"),
        "₽": Currency("ruble", "rubles", "kopeck", "kopecks"), "¢": Currency("cent", "cents"),
        "zł": Currency("zloty", "zlotys"), "₿": Currency("bitcoin", "bitcoins"),
    }
)  # fmt: skip


def _units() -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for entry in filter(None, _UNITS.split("|")):
        sign, one, *many = entry.split()
        found[sign] = (one.replace("_", " "), (many[0] if many else f"{one}s").replace("_", " "))
    for length in _LENGTHS:
        one, many_ = found.get(length, _INCH)
        for power, word in _POWERS.items():
            found[length + power] = (f"{word} {one}", f"{word} {many_}")
    return found


# (singular, plural) by sign.
UNITS: Mapping[str, tuple[str, str]] = MappingProxyType(_units())
