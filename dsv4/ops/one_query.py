"""What a single decoded token reads of its cache, in compiled loops: the indexer's choice, and attention over rows.

Both take one sequence on a CPU and give what `select.best_places` and `attend.attend` give, to rounding: sums are in
float32 whatever rows are. `None` means that the loops cannot take this, and torch must.

Shape letters: H heads, D row width, V numbers of a row that are value, S rows, K chosen, I index heads, C index size.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dsv4.ops import native

BITS = {torch.float32: 32, torch.bfloat16: 16, torch.int8: 8}


def _rows(rows_SD: Tensor, forms: tuple[int, ...]) -> bool:
    bits = BITS.get(rows_SD.dtype)
    return (
        bits in forms
        and rows_SD.device.type == "cpu"
        and rows_SD.stride(1) == 1
        and rows_SD.shape[1] * bits % 32 == 0
        and not torch.is_grad_enabled()
        and not torch.compiler.is_compiling()
    )


def attend_one(
    q_HD: Tensor, rows_SD: Tensor, places_K: Tensor | None, sink_H: Tensor | None, *, scale: float, value: int
) -> Tensor | None:
    """softmax(q · rows · scale, and the sink) times the first `value` numbers of rows, float32 [H, V].

    Rows are all S, or those at `places_K` (int64). Source: as in `ops.attend`; the softmax is taken block by block.
    """
    lib = native.wide_library()
    if lib is None or q_HD.dtype == torch.float64 or not _rows(rows_SD, (32, 16)):
        return None
    heads, width = q_HD.shape
    q_HD = q_HD.float().contiguous()
    sink_H = None if sink_H is None else sink_H.detach().float().contiguous()
    out_HV = torch.empty(heads, value)
    wrong = lib.dsv4_attend(
        out_HV.data_ptr(), q_HD.data_ptr(), rows_SD.data_ptr(), BITS[rows_SD.dtype],
        rows_SD.stride(0) * rows_SD.element_size(), None if places_K is None else places_K.data_ptr(),
        len(rows_SD) if places_K is None else len(places_K), heads, width, value, scale,
        None if sink_H is None else sink_H.data_ptr(),
    )  # fmt: skip
    if wrong:
        raise MemoryError("no memory for a query")
    return out_HV


def choose_one(
    q_IC: Tensor, weights_I: Tensor, keys_SC: Tensor, scales_S: Tensor | None, k: int, *, scores_S: Tensor | None = None
) -> Tensor | None:
    """Places int64 [K] of the k best of S keys, in order of place; of equal scores the later key. S is at least k.

    Keys are int8 codes where `scales_S` (float32) is given. `scores_S`, float32, is filled with the scores of
    `select.index_scores` where it is given.
    """
    lib = native.wide_library()
    if lib is None or q_IC.dtype == torch.float64 or not _rows(keys_SC, (32, 16) if scales_S is None else (8,)):
        return None
    heads, size = q_IC.shape
    q_IC, weights_I = q_IC.float().contiguous(), weights_I.float().contiguous()
    scales_S = None if scales_S is None else scales_S.contiguous()
    places_K = torch.empty(k, dtype=torch.long)
    wrong = lib.dsv4_choose(
        places_K.data_ptr(), None if scores_S is None else scores_S.data_ptr(), q_IC.data_ptr(), weights_I.data_ptr(),
        keys_SC.data_ptr(), BITS[keys_SC.dtype], keys_SC.stride(0) * keys_SC.element_size(),
        None if scales_S is None else scales_S.data_ptr(), len(keys_SC), heads, size, k,
    )  # fmt: skip
    if wrong:
        raise MemoryError("no memory for scores")
    return places_K
