"""Figures as a person reads them: sizes, shares and divergences in a few digits."""

import re

_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_POWER = re.compile(r"(?<=\d)e(-?\d+)\b")
NONE = "–"


def raised(words: str) -> str:
    """Return text with its powers of ten as they are printed: 3.0e-4 becomes 3.0×10⁻⁴."""
    return _POWER.sub(lambda found: f"×10{found[1].translate(_SUPERSCRIPTS)}", words)


def significant(value: float, digits: int = 3) -> str:
    """Return a number in some significant digits; small and large ones with a power of ten, in ASCII."""
    if value == 0:
        return "0"
    if not 1e-3 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
        return f"{mantissa}e{int(exponent)}"
    whole = len(str(int(abs(value))))
    decimals = digits - whole if abs(value) >= 1 else digits - 1 - _exponent(value)
    return f"{value:.{max(0, decimals)}f}"


def printed(value: float, digits: int = 3) -> str:
    """Return what `significant` does, with the power of ten as it is printed: 3.0×10⁻⁴."""
    return raised(significant(value, digits))


def tick(value: float) -> str:
    """Return a round number as it stands at an axis: 0.05, 10⁻⁵, 2×10⁻⁵."""
    if value == 0 or 1e-4 <= abs(value) < 1e6:
        return f"{value:.10g}" if abs(value) >= 1e-3 or value == 0 else f"{value:.6f}".rstrip("0")
    mantissa, _, exponent = f"{value:e}".partition("e")
    power = f"10{str(int(exponent)).translate(_SUPERSCRIPTS)}"
    return power if float(mantissa) == 1 else f"{float(mantissa):g}×{power}"


def megabytes(n_bytes: float) -> str:
    """Return bytes as kB, MB or GB of powers of ten."""
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if n_bytes >= size:
            return f"{significant(n_bytes / size, 4 if n_bytes >= 100 * size else 3)} {unit}"
    return f"{n_bytes / 1e3:.0f} kB"


def percent(share: float) -> str:
    """Return a share in per cent; only the whole reads 100 %."""
    if share == 1:
        return "100 %"
    return f"{min(share * 100, 99.99):.2f} %" if share >= 0.9995 else f"{share * 100:.1f} %"


def count(number: int) -> str:
    """Return a whole number with its thousands apart."""
    return f"{number:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def _exponent(value: float) -> int:
    return int(f"{value:e}".partition("e")[2])
