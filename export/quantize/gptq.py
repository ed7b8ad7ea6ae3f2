"""GPTQ: weights rounded one column after another, each one's error made up for by the columns that follow.

What counts is the error of the layer's outputs on calibration data, (w - q) H (w - q)^T for a row w, with H the second
moments of the inputs. Frantar et al., 2022; columns in the order of their moments, scales fixed beforehand.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from export.arrays import F32, U8
from export.errors import CalibrationError
from export.quantize import blocks
from export.quantize.blocks import Blocks, Format

DAMPING: Final = 0.01  # of the mean moment, added to each: keeps the inverse bounded
MORE_DAMPING: Final = (1, 10, 100)  # times, where rounding leaves no positive definite matrix
COLUMNS: Final = 64  # worked on before the rest of the matrix is brought up to date


def quantize(weight: F32, moments: Tensor, form: Format) -> Blocks:
    """Quantize a matrix so that its outputs miss least.

    weight: (rows, K); moments: (K, K), the sum of x^T x over calibration inputs x (1, K); overwritten.
    Raises: CalibrationError when the moments are not finite.
    """
    if not bool(torch.isfinite(moments).all()):
        raise CalibrationError("calibration: an input of a layer is not finite")
    columns = weight.shape[1]
    importance = moments.diagonal().clone()
    start = blocks.quantize(weight, form, importance=_costs(importance))
    order = torch.argsort(importance, descending=True, stable=True)
    torch.index_select(moments[order], 1, order, out=moments)
    upper = _upper_factor(moments).numpy()
    scales = np.ascontiguousarray(start.scales.T)
    zero_points = np.ascontiguousarray(start.zero_points.T, np.float32)
    at = order.numpy()
    chosen = _sweep(np.ascontiguousarray(weight.T[at]), upper, scales, zero_points, at // form.block, form.largest)
    values = np.repeat(start.zero_points, form.block, axis=1)  # what fills a row up stands for 0
    values[:, at] = chosen.T
    return Blocks(values.reshape(len(weight), form.blocks(columns), form.block), start.scales, start.zero_points)


def _costs(importance: Tensor) -> F32:
    """The moments of the columns, none of them 0: a column that was never used is still rounded well."""
    floor = max(float(importance.mean()) * DAMPING, float(np.finfo(np.float32).tiny))
    costs: F32 = importance.clamp(min=floor).numpy()
    return costs


def _upper_factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse; three matrices at once. moments: (K, K), overwritten."""
    step = DAMPING * max(float(moments.diagonal().mean()), float(np.finfo(np.float32).tiny))
    for times in MORE_DAMPING:
        moments.diagonal().add_(step * times)
        lower, failed = torch.linalg.cholesky_ex(moments)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            del lower  # of 11 008 inputs, each of these matrices has 485 MB
            factor, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                upper: Tensor = factor
                return upper
    raise CalibrationError("calibration: the inputs of a layer have no usable statistics")


def _sweep(weight: F32, upper: F32, scales: F32, zero_points: F32, group: npt.NDArray[np.int64], largest: int) -> U8:
    """Round all columns in order. weight: (K, rows), overwritten; scales, zero_points: (blocks, rows).

    group: (K,) the block of each column. Returns the values (K, rows): columns lie together, as they are worked on.
    """
    values = np.empty(weight.shape, np.uint8)
    divisors = np.where(scales == 0, np.float32(1), scales)
    for first in range(0, len(weight), COLUMNS):
        last = min(first + COLUMNS, len(weight))
        errors = np.empty((last - first, weight.shape[1]), np.float32)
        for at in range(first, last):
            block, error = group[at], errors[at - first]
            value = np.clip(np.rint(weight[at] / divisors[block] + zero_points[block]), 0, largest)
            values[at] = value
            np.subtract(weight[at], (value - zero_points[block]) * scales[block], out=error)
            error /= upper[at, at]
            weight[at + 1 : last] -= upper[at, at + 1 : last, None] * error
        # By torch, as everything large here: two libraries' threads would wait for each other.
        rest = torch.from_numpy(weight[last:])
        rest.addmm_(torch.from_numpy(upper[first:last, last:]).T, torch.from_numpy(errors), alpha=-1)
    return values
