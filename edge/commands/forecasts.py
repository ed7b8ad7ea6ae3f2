"""What a bundle really does beside what `edge plan` says of it: speed and memory, for `edge doctor`."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.bundle.shape import of_manifest
from edge.commands.measuring import memory, read_and_generate, seconds_per_tile
from edge.engine.footprint import Load, footprint
from edge.engine.rates import read_s, step_s, tile_s

if TYPE_CHECKING:
    from edge.engine.engine import Engine
    from edge.engine.rates import Rates

_PROMPT, _ANSWER = 256, 16  # tokens
_PROCESS = ("Python and onnxruntime", "decoding of media")  # there before the model, or elsewhere


@dataclass(frozen=True)
class Forecast:
    """A figure as it was forecast and as it is; unit: behind both, bytes are in MB."""

    name: str
    forecast: float
    measured: float
    unit: str

    @property
    def words(self) -> str:
        """Both, and how far the forecast is off."""
        off = self.forecast / self.measured - 1 if self.measured else 0.0
        forecast, measured = (
            f"{each:.0f}" if each >= 100 else f"{each:.3g}" for each in (self.forecast, self.measured)
        )
        return f"{self.name} {forecast} {self.unit} forecast, {measured} measured ({off:+.0%})"


def rates_in_words(rates: "Rates") -> Iterator[tuple[str, str]]:
    """Yield what was measured of a machine as (name, text)."""
    yield "bandwidth", f"{rates.bandwidth / 1e9:.1f} GB/s read from memory with {rates.threads} threads"
    one = ", ".join(f"{kind} {rate / 1e9:.0f}" for kind, rate in rates.one_row.items())
    many = ", ".join(f"{kind} {rate / 1e9:.0f}" for kind, rate in rates.many_rows.items())
    yield "products", f"of one row, GB/s: {one}; of 256 rows, 10⁹ operations/s: {many}"
    yield "attention", f"{rates.cache / 1e9:.1f} GB/s of keys and values, {rates.attention / 1e9:.0f} 10⁹ operations/s"


def compared(engine: "Engine", rates: "Rates", *, before_bytes: float) -> Iterator[Forecast]:
    """Measure a bundle that is open, and yield what was forecast beside it.

    before_bytes: anonymous memory of this process before the bundle was opened.
    """
    found = of_manifest(engine.manifest)
    n_answer = min(_ANSWER, engine.context // 2)
    n_prompt = min(_PROMPT, engine.context - n_answer)
    read_per_s, step_per_s = read_and_generate(engine, n_prompt, n_answer)
    yield Forecast("prompt", n_prompt / read_s(found, rates, n_prompt, kv=engine.kv), read_per_s, "tokens/s")
    yield Forecast("decode", 1 / step_s(found, rates, position=n_prompt, kv=engine.kv), step_per_s, "tokens/s")
    tile = seconds_per_tile(engine)
    if tile is not None and found.vision is not None:
        yield Forecast("tile", tile_s(found.vision, rates), tile, "s")
    load = Load(n_prompt + n_answer, kv=engine.kv, packed=engine.is_packed)
    parts = footprint(found, load).parts
    n_bytes = sum(part.n_bytes for part in parts if not part.mapped and part.name not in _PROCESS)
    held = float(memory()["anonymous_bytes"] or 0) - before_bytes
    yield Forecast("memory", n_bytes / 1e6, held / 1e6, "MB")
