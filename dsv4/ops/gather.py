"""Rows by their places, many at a time.

Shape letters: B batch, Q queries, S rows, K chosen, D row width.
"""

from __future__ import annotations

import torch
from torch import Tensor


def gather_rows(rows_BSD: Tensor, index_BQK: Tensor) -> Tensor:
    """rows[b, index[b, q, k]]: [B, Q, K, D]. Whole rows are copied, which is quicker than number by number."""
    pairs = zip(rows_BSD, index_BQK, strict=True)
    found = [rows_SD.index_select(0, index_QK.reshape(-1)) for rows_SD, index_QK in pairs]
    return (found[0][None] if len(found) == 1 else torch.stack(found)).view(*index_BQK.shape, -1)
