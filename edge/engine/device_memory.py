"""Keys and values in the memory of a device, such as a GPU: onnxruntime reads and writes them there, without copies."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from edge.errors import MemoryExhausted

if TYPE_CHECKING:
    import onnxruntime as ort


@dataclass(frozen=True, eq=False)
class Place:
    """A tensor that is on a device. address: of its first value there; owner: what it is a part of, and keeps it."""

    device: str
    address: int
    shape: tuple[int, ...]
    dtype: npt.DTypeLike
    owner: "ort.OrtValue"


class DeviceMemory:
    """A zeroed tensor on a device for every part of a cache: (slots, n_kv_heads, rows, head_dim) each.

    device: as onnxruntime calls it, cuda or cpu. All of it is taken at once, and none is given back before the end.
    Raises: MemoryExhausted.
    """

    can_repeat = False  # a slot is in one place

    def __init__(self, n_parts: int, shape: tuple[int, ...], dtype: npt.DTypeLike, device: str) -> None:
        import onnxruntime as ort

        self._device = device
        self._shape = shape
        self._dtype = np.dtype(dtype)
        try:
            # An OrtValue on the CPU is the array itself, one elsewhere a copy; zeros take no memory until written.
            arrays = [np.zeros(shape, self._dtype) for _ in range(n_parts)]
            self._parts = [ort.OrtValue.ortvalue_from_numpy(array, device, 0) for array in arrays]
        except (RuntimeError, MemoryError) as error:
            n_bytes = n_parts * self._dtype.itemsize * int(np.prod(shape))
            raise MemoryExhausted(f"no room for {n_bytes} bytes of keys and values on {device}: {error}") from error
        self._arrays = arrays if device == "cpu" else []

    def places(self, first: int, n: int) -> list[Place]:
        """Return n slots of every part, from the first on."""
        step = self._dtype.itemsize * int(np.prod(self._shape[1:]))
        shape = (n, *self._shape[1:])
        return [Place(self._device, part.data_ptr() + first * step, shape, self._dtype, part) for part in self._parts]

    def clear(self) -> None:
        """Keep it: what is not written again is not read."""
