"""GPTQ: weights rounded one column after another, each one's error made up for by the columns that follow.

What counts is the error of the layer's outputs on calibration data, (w - q) H (w - q)^T for a row w, with H the second
moments of the inputs. Frantar et al., 2022; columns in the order of their moments, scales fixed beforehand.
"""

from typing import Final

import numpy as np
import torch
from torch import Tensor

from export.arrays import F32
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
    upper = _upper_factor(moments[order][:, order])
    group = order // form.block
    scales, zero_points = torch.from_numpy(start.scales), torch.from_numpy(start.zero_points).float()
    chosen = _sweep(torch.from_numpy(weight)[:, order], upper, scales, zero_points, group, form.largest)
    values = np.repeat(start.zero_points, form.block, axis=1)  # what fills a row up stands for 0
    values[:, order.numpy()] = chosen.numpy()
    return Blocks(values.reshape(len(weight), form.blocks(columns), form.block), start.scales, start.zero_points)


def _costs(importance: Tensor) -> F32:
    """The moments of the columns, none of them 0: a column that was never used is still rounded well."""
    floor = max(float(importance.mean()) * DAMPING, float(np.finfo(np.float32).tiny))
    costs: F32 = importance.clamp(min=floor).numpy()
    return costs


def _upper_factor(moments: Tensor) -> Tensor:
    """The upper Cholesky factor of the damped inverse. moments: (K, K), overwritten."""
    step = DAMPING * max(float(moments.diagonal().mean()), float(np.finfo(np.float32).tiny))
    for times in MORE_DAMPING:
        moments.diagonal().add_(step * times)
        lower, failed = torch.linalg.cholesky_ex(moments)
        if not failed:
            inverse = torch.cholesky_inverse(lower)
            factor, failed = torch.linalg.cholesky_ex(inverse, upper=True)
            if not failed:
                upper: Tensor = factor
                return upper
    raise CalibrationError("calibration: the inputs of a layer have no usable statistics")


def _sweep(weight: Tensor, upper: Tensor, scales: Tensor, zero_points: Tensor, group: Tensor, largest: int) -> Tensor:
    """Round all columns in order. weight: (rows, K), overwritten; group: the block of each. Returns values."""
    weight = weight.contiguous()
    values = torch.empty(weight.shape, dtype=torch.uint8)
    for first in range(0, weight.shape[1], COLUMNS):
        last = min(first + COLUMNS, weight.shape[1])
        errors = torch.empty(len(weight), last - first)
        for at in range(first, last):
            scale, zero = scales[:, group[at]], zero_points[:, group[at]]
            value = (weight[:, at] / torch.where(scale == 0, 1, scale) + zero).round_().clamp_(0, largest)
            values[:, at] = value.to(torch.uint8)
            error = (weight[:, at] - (value - zero) * scale) / upper[at, at]
            weight[:, at + 1 : last] -= error[:, None] * upper[at, at + 1 : last]
            errors[:, at - first] = error
        weight[:, last:] -= errors @ upper[first:last, last:]
    return values
