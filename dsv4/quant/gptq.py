"""GPTQ: rounds columns one after the other and lets the later ones make up for the error so far.

Shape letters: E experts (a batch), N rows, K columns, G groups of a row.
Source: arXiv 2210.17323, algorithm 1: H is the second moment of the inputs, U the upper Cholesky factor of its inverse;
the error of column j, divided by U_jj, is taken off the later columns in proportion to row j of U. Differences: all
experts at once, and a group's scale is searched with the diagonal of H when its first column is reached.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.quant.grid import Grid

DAMP = 0.01  # of the mean of H's diagonal, added to it
BLOCK = 128  # columns between two updates of all later ones


def gptq(weight_ENK: Tensor, hessian_EKK: Tensor, grid: Grid) -> tuple[Tensor, Tensor]:
    """Codes int8 [E, N, K] and scales [E, N, G] that minimise the output's error under `hessian_EKK`.

    Inputs that never occurred (zero on the diagonal) are rounded as they are. ValueError when the groups do not divide
    the columns.
    """
    grid.grouped(weight_ENK)
    weight = weight_ENK.float().clone()
    diagonal_EK = hessian_EKK.diagonal(dim1=-2, dim2=-1)
    upper_EKK = _factor(hessian_EKK)
    columns, group = weight.shape[-1], grid.group
    codes = torch.empty(weight.shape, dtype=torch.int8)
    scales_ENG = torch.empty(*weight.shape[:-1], columns // group)
    half = 2 ** (grid.bits - 1)
    for begin in range(0, columns, BLOCK):
        end = min(begin + BLOCK, columns)
        errors = torch.zeros(*weight.shape[:-1], end - begin)
        for column in range(begin, end):
            if column % group == 0:
                # Columns of the group beyond this block have not been told of the block's errors yet.
                ahead = weight[..., column : column + group].clone()
                if column + group > end:
                    ahead[..., end - column :] -= errors @ upper_EKK[:, begin:end, end : column + group]
                diagonal = diagonal_EK[:, column : column + group]
                scale = grid.searched(ahead, diagonal_K=diagonal)[..., 0]
                scales_ENG[..., column // group] = scale
            now_EN = weight[..., column]
            code_EN = torch.round(now_EN / scale).clamp(-half, half - 1)
            codes[..., column] = code_EN.to(torch.int8)
            error_EN = (now_EN - code_EN * scale) / upper_EKK[:, column, column, None]
            errors[..., column - begin] = error_EN
            weight[..., column:end] -= error_EN[..., None] * upper_EKK[:, None, column, column:end]
        weight[..., end:] -= errors @ upper_EKK[:, begin:end, end:]
    return codes, scales_ENG


def _factor(hessian_EKK: Tensor) -> Tensor:
    """Upper Cholesky factor of the damped inverse; damped more where the matrix does not allow it."""
    hessian = hessian_EKK.float().clone()
    diagonal_EK = hessian.diagonal(dim1=-2, dim2=-1)
    diagonal_EK += (diagonal_EK == 0).float()
    mean_E1 = diagonal_EK.mean(-1, keepdim=True)
    damp = DAMP
    while True:
        diagonal_EK += damp * mean_E1
        lower, wrong = torch.linalg.cholesky_ex(hessian)
        if not wrong.any():
            upper, wrong = torch.linalg.cholesky_ex(torch.cholesky_inverse(lower), upper=True)
            if not wrong.any():
                return upper
        damp *= 10
