"""The figures of `edge bench` as one SVG: decoding and reading against the context, and the rest as text."""

import math
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Final

_WIDTH, _HEIGHT = 760, 420
_LEFT, _TOP, _PANEL_WIDTH, _PANEL_HEIGHT, _GAP = 64, 84, 292, 220, 76
_PANELS: Final = (
    ("decode_tokens_per_s_at", "decode, tokens/s", "#0b62a4"),
    ("prefill_tokens_per_s_at", "reading a prompt, tokens/s", "#c2410c"),
)
_N_STEPS = 5


def svg(figures: Mapping[str, object]) -> str:
    """Return the plot of one run's figures."""
    title = f"{figures['model']} on {figures['cpu']}, {figures['threads']} threads"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" font-family="sans-serif" '
        f'font-size="12" role="img"><title>{escape(title)}</title>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="#fff"/>',
        _text(_LEFT - 40, 28, title, size=16, weight="bold"),
        _text(_LEFT - 40, 48, _summary(figures)),
    ]
    for number, (key, name, colour) in enumerate(_PANELS):
        found = figures.get(key)
        points = sorted((int(at), float(value)) for at, value in found.items()) if isinstance(found, Mapping) else []
        parts += _panel(points, name, colour, left=_LEFT + number * (_PANEL_WIDTH + _GAP))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _summary(figures: Mapping[str, object]) -> str:
    """Return what is no curve, in a line."""
    told = [f"load {figures['load_s']:.1f} s"]
    tile = figures.get("seconds_per_tile")
    told += [f"{tile:.2f} s per image tile"] if isinstance(tile, float) else []
    held, mapped = (figures[name] for name in ("anonymous_bytes", "mapped_bytes"))
    if isinstance(held, int) and isinstance(mapped, int):
        told.append(f"{held / 1e6:.0f} MB anonymous, {mapped / 1e6:.0f} MB mapped")
    return ", ".join([*told, f"onnxruntime {figures['onnxruntime']}"])


def _panel(points: Sequence[tuple[int, float]], name: str, colour: str, *, left: int) -> Iterator[str]:
    """Draw one curve: the context on a logarithmic axis, from zero up on the other."""
    bottom = _TOP + _PANEL_HEIGHT
    yield _text(left, _TOP - 12, name, weight="bold")
    if not points:
        yield _text(left, _TOP + 20, "not measured")
        return
    step = _step(max(value for _, value in points))
    most = step * math.ceil(max(value for _, value in points) / step)
    low, high = math.log2(points[0][0]), math.log2(points[-1][0])

    def at(context: int, value: float) -> tuple[float, float]:
        share = 0.5 if high == low else (math.log2(context) - low) / (high - low)
        return round(left + share * _PANEL_WIDTH, 1), round(bottom - value / most * _PANEL_HEIGHT, 1)

    for tick in range(round(most / step) + 1):
        _, y = at(points[0][0], tick * step)
        yield f'<path d="M{left} {y}H{left + _PANEL_WIDTH}" stroke="#ddd"/>'
        yield _text(left - 8, y + 4, f"{tick * step:g}", anchor="end")
    places = [at(context, value) for context, value in points]
    yield f'<path d="M{"L".join(f"{x} {y}" for x, y in places)}" fill="none" stroke="{colour}" stroke-width="2"/>'
    for (context, value), (x, y) in zip(points, places, strict=True):
        yield f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"><title>{context}: {value:.4g}</title></circle>'
        yield _text(x, y - 9, f"{value:.3g}", anchor="middle", colour=colour)
        yield _text(x, bottom + 18, str(context), anchor="middle")
    yield _text(left + _PANEL_WIDTH / 2, bottom + 38, "context, tokens", anchor="middle")


def _step(most: float) -> float:
    """Return a round distance of ticks, of which a few reach up to the most."""
    rough = max(most, 1e-9) / _N_STEPS
    power = 10.0 ** math.floor(math.log10(rough))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)


def _text(
    x: float,
    y: float,
    words: str,
    *,
    anchor: str = "start",
    size: int = 12,
    weight: str = "normal",
    colour: str = "#222",
) -> str:
    place = f'x="{x}" y="{y}" text-anchor="{anchor}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
    return f"<text {place}>{escape(words)}</text>"
