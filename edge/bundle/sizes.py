"""The bytes of a matrix in each scheme: as a bundle stores it, and as onnxruntime packs it for its kernels."""

import re
from dataclasses import dataclass

INT4_BLOCK = 128  # of the scheme int4
_MINIMUMS_BLOCK = 32
_BLOCKS = re.compile(r"int(4|8)-block(\d+)(-zp)?")


@dataclass(frozen=True)
class Matrix:
    """A matrix of weights, `n` of them alike: outputs, inputs, and how they are stored."""

    rows: int
    columns: int
    scheme: str
    n: int = 1

    @property
    def n_weights(self) -> int:
        """The weights of all of them."""
        return self.rows * self.columns * self.n

    @property
    def stored_bytes(self) -> int:
        """The bytes of all of them in a file."""
        return self.n * stored_bytes(self.rows, self.columns, self.scheme)

    @property
    def packed_bytes(self) -> int:
        """The bytes of all of them that a product reads."""
        return self.n * packed_bytes(self.rows, self.columns, self.scheme)

    @property
    def kept_bytes(self) -> int:
        """The bytes that all of them take in memory: what a product reads, and what is kept beside it."""
        return self.packed_bytes + self.n * _folded_bytes(self.rows, self.columns, self.scheme)


def stored_bytes(rows: int, columns: int, scheme: str) -> int:
    """Values, filled up to whole blocks, with their scales and zero points or minimums, as the exporter writes them."""
    if scheme == "int8":
        return rows * (columns + 4)
    if scheme == "int4":
        return rows * -(-columns // INT4_BLOCK) * (INT4_BLOCK // 2 + 4)
    if scheme == "int4-block32-min":
        return rows * -(-columns // _MINIMUMS_BLOCK) * (_MINIMUMS_BLOCK // 2 + 4)
    found = _BLOCKS.fullmatch(scheme)
    if found is None:
        return rows * columns * (2 if scheme == "fp16" else 4)
    bits, block = int(found[1]), int(found[2])
    n_blocks = -(-columns // block)
    points = -(-n_blocks * bits // 8) if found[3] else 0
    return rows * (n_blocks * (block * bits // 8 + 2) + points)


def packed_bytes(rows: int, columns: int, scheme: str) -> int:
    """What the kernel reads: values, float32 scales and, in blocks, the float32 sums of blocks that spare it the zeros.

    Measured on x86 with onnxruntime 1.32; other CPUs pack the same values in other ways, of about the same size. fp16:
    as a GPU reads it.
    """
    if scheme == "int8":
        return rows * (columns + 8)
    if scheme in ("fp16", "fp32"):
        return rows * columns * (2 if scheme == "fp16" else 4)
    bits, block = _form(scheme)
    n_blocks = -(-columns // block)
    minimums = 4 if scheme.endswith("-min") else 0
    return rows * n_blocks * (block * bits // 8 + 8 + minimums)


def _folded_bytes(rows: int, columns: int, scheme: str) -> int:
    """The float32 scales that the cast from float16 leaves behind; kernels read their own copy."""
    if scheme in ("int8", "fp32", "fp16", "int4"):
        return 0
    return 4 * rows * -(-columns // _form(scheme)[1])


def _form(scheme: str) -> tuple[int, int]:
    """Return the bits and the block of a scheme in blocks."""
    if scheme == "int4":
        return 4, INT4_BLOCK
    if scheme == "int4-block32-min":
        return 4, _MINIMUMS_BLOCK
    found = _BLOCKS.fullmatch(scheme)
    return (int(found[1]), int(found[2])) if found else (32, 1 << 30)
