"""Chooses a scheme for each layer of the decoder: the least expected KL divergence within a number of bytes."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from edge.bundle.manifest import Scheme
from export.errors import RecipeError
from export.quantize.blocks import format_of, stored_bytes
from export.quantize.sensitivity import Sensitivity

CORRECTED: Final = 0.4  # what calibration leaves of the divergence that rounding to 4 bits costs (0.38 measured)
_HALVINGS: Final = 100  # of the price of a byte

Choice = Mapping[str, Scheme]  # by path


def within_bytes(layers: Sequence[Sensitivity], limit: float) -> Choice:
    """The schemes with the least divergence whose tensors have at most `limit` bytes together.

    Raises: RecipeError with both numbers when even the smallest do not fit.
    """
    smallest = _cheapest(layers, float("inf"))
    if tensor_bytes(layers, smallest) > limit:
        raise RecipeError(
            f"the decoder's layers have {tensor_bytes(layers, smallest)} bytes in the smallest schemes, expected at"
            f" most {int(limit)}: choose a larger size, or smaller schemes"
        )
    _, fits = _border(lambda price: tensor_bytes(layers, _cheapest(layers, price)) <= limit)
    return _filled(layers, dict(_cheapest(layers, fits)), limit)


def within_kl(layers: Sequence[Sensitivity], limit: float) -> Choice:
    """The smallest schemes whose expected divergence is at most `limit` nats.

    Raises: RecipeError with both numbers when even the finest cost more.
    """
    finest = _cheapest(layers, 0)
    if divergence(layers, finest) > limit:
        raise RecipeError(
            f"the finest schemes are expected to cost a KL divergence of {divergence(layers, finest):.3g}, expected at"
            f" most {limit:g}: allow a larger one, or finer schemes"
        )
    fits, _ = _border(lambda price: divergence(layers, _cheapest(layers, price)) > limit)
    return _cheapest(layers, fits)


def divergence(layers: Sequence[Sensitivity], choice: Choice) -> float:
    """The expected KL divergence of a choice, in nats: layers add up."""
    return sum(_cost(layer, choice[layer.path]) for layer in layers)


def tensor_bytes(layers: Sequence[Sensitivity], choice: Choice) -> int:
    """The bytes of values, scales and zero points of a choice."""
    return sum(_bytes(layer.shape, choice[layer.path]) for layer in layers)


def _border(is_beyond: Callable[[float], bool]) -> tuple[float, float]:
    """The prices of a byte on either side of a border: the higher the price, the smaller and coarser the choice."""
    low, high = 0.0, 1.0
    for _ in range(_HALVINGS):
        price = (low + high) / 2
        low, high = (low, price) if is_beyond(price) else (price, high)
    return low, high


def _cheapest(layers: Sequence[Sensitivity], price: float) -> Choice:
    """Each layer's best scheme where a byte costs `price` nats; for an infinite price the smallest."""
    if price == float("inf"):
        return {layer.path: min(layer.kl, key=lambda scheme: _bytes(layer.shape, scheme)) for layer in layers}
    return {
        layer.path: min(layer.kl, key=lambda scheme: _cost(layer, scheme) + price * _bytes(layer.shape, scheme))
        for layer in layers
    }


def _filled(layers: Sequence[Sensitivity], choice: dict[str, Scheme], limit: float) -> Choice:
    """Spend the bytes that are left on whichever layers gain most by them."""
    room = limit - tensor_bytes(layers, choice)
    steps = [(layer, scheme) for layer in layers for scheme in layer.kl]
    gains = {id(step): _cost(step[0], choice[step[0].path]) - _cost(*step) for step in steps}
    for layer, scheme in sorted(steps, key=lambda step: (-gains[id(step)], step[0].path)):
        more = _bytes(layer.shape, scheme) - _bytes(layer.shape, choice[layer.path])
        if 0 < more <= room and _cost(layer, scheme) < _cost(layer, choice[layer.path]):
            choice[layer.path] = scheme
            room -= more
    return choice


def _cost(layer: Sensitivity, scheme: Scheme) -> float:
    form = format_of(scheme)
    return layer.kl[scheme] * (CORRECTED if form is not None and form.bits < 8 else 1)


def _bytes(shape: tuple[int, int], scheme: Scheme) -> int:
    form = format_of(scheme)
    return 4 * shape[0] * shape[1] if form is None else stored_bytes(shape, form)
