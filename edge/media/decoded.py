"""What decoding media takes and gives, wherever it is done."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.uint8] | npt.NDArray[np.float32]
Json = Any  # what json.loads gives; it comes from a process that untrusted data may have taken over
Options = Mapping[str, int | float | str | bool | None]
Decode = Callable[[bytes, Options], "Decoded"]


@dataclass(frozen=True, eq=False)
class Decoded:
    """Media decoded. arrays: uint8 or float32, each C-contiguous; info: what else is known, as JSON has it."""

    arrays: tuple[Array, ...]
    info: Mapping[str, Json] = field(default_factory=dict)
