"""Sparse reading as Triton kernels: entries gathered and attended to at once, and the indexer's scores of all keys.

Shape letters: N queries of all rows of a batch, S entries or keys, K chosen, H heads, D entry size, V numbers that are
value, I index heads, C index size, B rows of the batch, P parts that the chosen of a query are cut into.
Source: the formulas of attend.py (`attend_chosen`) and select.py (`index_scores`); parts are joined as in
Flash-Decoding (each keeps its highest score and its sum). Gathered rows are never written to memory, and the scores of
single heads neither. Tested in Triton's interpreter, on an H100 and an H200 (docs/gpu.md); `DSV4_TRITON`
switches them.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from dsv4.ops.switches import possible, taken_on

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WANTED = INTERPRETED or possible("DSV4_TRITON")
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

STEP_BYTES = 65_536  # of chosen entries that one step brings in
PROGRAMS = 132  # one for each multiprocessor of an H100 or H200 (docs/gpu.md); fewer queries are cut into parts
LEAST_PART = 128  # chosen entries of a part
SCORES_ROWS, SCORES_KEYS = 64, 128  # heads of several queries, and keys, of one product


def applies(*tensors: Tensor) -> bool:
    """Whether the kernels may be taken for these tensors."""
    if not AVAILABLE or torch.is_grad_enabled():
        return False
    return INTERPRETED or all(taken_on(tensor.device, "DSV4_TRITON") for tensor in tensors)


if AVAILABLE:

    @triton.jit
    def _opened(x, HOW: tl.constexpr):
        return x.to(tl.float32) if HOW == "ieee" else x

    @triton.jit
    def _read_e4m3(code):
        # The bits as a float16, whose exponent counts from 8 lower: a 256th of the number.
        bits = code.to(tl.int16)
        return (((bits << 7) & 0x3F80) | ((bits & 0x80) << 8)).to(tl.float16, bitcast=True)

    @triton.jit
    def _attend_kernel(
        q, entries, places, real, sink, out, tops, totals, per_row, size, K, H, scale, part,
        D: tl.constexpr, V: tl.constexpr, HB: tl.constexpr, VP: tl.constexpr, RP: tl.constexpr, SINK: tl.constexpr,
        STEP: tl.constexpr, PARTS: tl.constexpr, HOW: tl.constexpr,
    ):  # fmt: skip
        n, cut = tl.program_id(0).to(tl.int64), tl.program_id(2)
        h, v, s = tl.program_id(1) * HB + tl.arange(0, HB), tl.arange(0, VP), tl.arange(0, STEP)
        at_q = q + (n * H + h)[:, None] * D
        q_hv = _opened(tl.load(at_q + v[None, :], mask=(h < H)[:, None] & (v < V)[None, :], other=0.0), HOW)
        if RP > 0:  # numbers that are key alone stand behind those that are value too
            r = tl.arange(0, RP)
            q_hr = _opened(tl.load(at_q + V + r[None, :], mask=(h < H)[:, None] & (r < D - V)[None, :], other=0.0), HOW)
        top = tl.full((HB,), -1e30, tl.float32)
        total = tl.zeros((HB,), tl.float32)
        if SINK:  # counted once, in the first part
            top = tl.where(cut == 0, tl.load(sink + h, mask=h < H, other=0.0).to(tl.float32), top)
            total = tl.where(cut == 0, 1.0, total)
        kept = tl.zeros((HB, VP), tl.float32)
        row = (n // per_row) * size
        for first in range(cut * part, tl.minimum(K, (cut + 1) * part), STEP):
            k = first + s
            at = tl.load(places + n * K + k, mask=k < K, other=0).to(tl.int64)
            seen = (tl.load(real + n * K + k, mask=k < K, other=0) != 0) & (k < K)
            at_entry = entries + (row + at)[:, None] * D
            entry = _opened(tl.load(at_entry + v[None, :], mask=seen[:, None] & (v < V)[None, :], other=0.0), HOW)
            score = tl.dot(q_hv, tl.trans(entry), input_precision=HOW)
            if RP > 0:
                inside = seen[:, None] & (r < D - V)[None, :]
                rest = _opened(tl.load(at_entry + V + r[None, :], mask=inside, other=0.0), HOW)
                score += tl.dot(q_hr, tl.trans(rest), input_precision=HOW)
            score = tl.where(seen[None, :], score * scale, -1e30)
            higher = tl.maximum(top, tl.max(score, 1))
            power = tl.where(seen[None, :], tl.exp(score - higher[:, None]), 0.0)
            shrink = tl.exp(top - higher)
            total = total * shrink + tl.sum(power, 1)
            kept = kept * shrink[:, None] + tl.dot(power.to(entry.dtype), entry, input_precision=HOW)
            top = higher
        valued = (h < H)[:, None] & (v < V)[None, :]
        if PARTS == 1:
            tl.store(out + (n * H + h)[:, None] * V + v[None, :], kept / total[:, None], mask=valued)
        else:
            lead = (n * PARTS + cut) * H + h
            tl.store(out + lead[:, None] * V + v[None, :], kept, mask=valued)
            tl.store(tops + lead, top, mask=h < H)
            tl.store(totals + lead, total, mask=h < H)

    @triton.jit
    def _join_kernel(
        parts, tops, totals, out, H, V: tl.constexpr, VP: tl.constexpr, PARTS: tl.constexpr, PP: tl.constexpr
    ):
        n, h = tl.program_id(0).to(tl.int64), tl.program_id(1)
        p, v = tl.arange(0, PP), tl.arange(0, VP)
        lead = (n * PARTS + p) * H + h
        top = tl.load(tops + lead, mask=p < PARTS, other=-1e30)
        weight = tl.where(p < PARTS, tl.exp(top - tl.max(top, 0)), 0.0)
        total = tl.sum(tl.load(totals + lead, mask=p < PARTS, other=0.0) * weight, 0)
        inside = (p < PARTS)[:, None] & (v < V)[None, :]
        kept = tl.load(parts + lead[:, None] * V + v[None, :], mask=inside, other=0.0)
        tl.store(out + (n * H + h) * V + v, tl.sum(kept * weight[:, None], 0) / total, mask=v < V)

    @triton.jit
    def _scores_kernel(
        q, weights, keys, scales, out, blocks, Q, S, stride, scale_stride, heads, size,
        QB: tl.constexpr, IP: tl.constexpr, CP: tl.constexpr, STEP: tl.constexpr, HOW: tl.constexpr,
        CODES: tl.constexpr,
    ):  # fmt: skip
        b, block = (tl.program_id(0) // blocks).to(tl.int64), tl.program_id(0) % blocks
        m, c = tl.arange(0, QB * IP), tl.arange(0, CP)
        i, t = m % IP, block * QB + m // IP
        s = tl.program_id(1) * STEP + tl.arange(0, STEP)
        real = (i < heads) & (t < Q)
        at_q = (b * Q + t) * heads + i
        q_mc = tl.load(q + at_q[:, None] * size + c[None, :], mask=real[:, None] & (c < size)[None, :], other=0)
        weight = tl.load(weights + at_q, mask=real, other=0.0).to(tl.float32)
        at = b * stride + s.to(tl.int64)[:, None] * size + c[None, :]
        key = tl.load(keys + at, mask=(s < S)[:, None] & (c < size)[None, :], other=0)
        if CODES == "e4m3":
            q_mc, key = _read_e4m3(q_mc), _read_e4m3(key)
            weight *= 65536.0
        if CODES == "int8" and HOW != "ieee":
            dots = tl.dot(q_mc, tl.trans(key), out_dtype=tl.int32).to(tl.float32)
        else:
            dots = tl.dot(_opened(q_mc, HOW), tl.trans(_opened(key, HOW)), input_precision=HOW)
        dots = tl.maximum(dots, 0.0) * weight[:, None]
        found = tl.sum(tl.reshape(dots, (QB, IP, STEP)), 1)
        if CODES != "none":
            found *= tl.load(scales + b * scale_stride + s, mask=s < S, other=0.0)[None, :]
        to = block * QB + tl.arange(0, QB)
        tl.store(out + (b * Q + to)[:, None] * S + s[None, :], found, mask=(to < Q)[:, None] & (s < S)[None, :])


def attend_places(
    q_BQHD: Tensor,
    entries_BSD: Tensor,
    places_BQK: Tensor,
    real_BQK: Tensor,
    sink_H: Tensor | None,
    *,
    scale: float,
    value: int | None = None,
) -> Tensor:
    """`attend.attend_chosen` over entries at these places, without a copy of them: [B, Q, H, V]."""
    B, Q, H, D = q_BQHD.shape
    V, K = D if value is None else value, places_BQK.shape[-1]
    width = q_BQHD.element_size()
    heads = min(16 if width > 2 else 64, max(16, triton.next_power_of_2(H)))
    padded = max(16, triton.next_power_of_2(V))
    step = max(16, min(64, STEP_BYTES // (padded * width)))
    count = B * Q * triton.cdiv(H, heads)
    wanted = max(1, min(triton.cdiv(PROGRAMS, count), triton.cdiv(K, LEAST_PART)))
    part = triton.cdiv(triton.cdiv(K, wanted), step) * step
    parts = triton.cdiv(K, part)
    out = torch.empty(B, Q, H, V, dtype=q_BQHD.dtype, device=q_BQHD.device)
    kept = out if parts == 1 else out.new_empty(B, Q, parts, H, V, dtype=torch.float32)
    tops = out if parts == 1 else kept.new_empty(B, Q, parts, H)
    totals = torch.empty_like(tops)
    _attend_kernel[(B * Q, triton.cdiv(H, heads), parts)](
        q_BQHD.contiguous(), entries_BSD.contiguous(), places_BQK.contiguous(), real_BQK.to(torch.uint8).contiguous(),
        q_BQHD if sink_H is None else sink_H, kept, tops, totals, Q, entries_BSD.shape[1], K, H, scale, part,
        D, V, heads, padded, max(16, triton.next_power_of_2(D - V)) if D > V else 0, sink_H is not None,
        step, parts, _how(q_BQHD), num_warps=8 if heads * padded > 8192 else 4, num_stages=3,
    )  # fmt: skip
    if parts > 1:
        _join_kernel[(B * Q, H)](kept, tops, totals, out, H, V, padded, parts, triton.next_power_of_2(parts))
    return out


def scores(q_BQIC: Tensor, weights_BQI: Tensor, keys_BSC: Tensor, scales_BS: Tensor | None = None) -> Tensor:
    """Σ_i w_i · ReLU(q_i · k) [B, Q, S] in float32; with scales, queries and keys are codes (int8, or uint8: e4m3)
    and the sum is scaled.

    Quickest where the keys of a sequence lie one behind the other, and its scales too.
    """
    B, Q, heads, size = q_BQIC.shape
    S = keys_BSC.shape[1]
    out = torch.empty(B, Q, S, dtype=torch.float32, device=q_BQIC.device)
    keys = keys_BSC if keys_BSC.stride()[1:] == (size, 1) else keys_BSC.contiguous()
    padded = triton.next_power_of_2(heads)
    together = max(1, 16 // padded, min(SCORES_ROWS // padded, triton.next_power_of_2(Q)))
    blocks = triton.cdiv(Q, together)
    codes = "none" if scales_BS is None else "e4m3" if keys.dtype == torch.uint8 else "int8"
    if scales_BS is not None and scales_BS.stride(1) != 1:
        scales_BS = scales_BS.contiguous()
    _scores_kernel[(B * blocks, triton.cdiv(S, SCORES_KEYS))](
        q_BQIC.contiguous(), weights_BQI.contiguous(), keys, out if scales_BS is None else scales_BS, out, blocks, Q, S,
        keys.stride(0), 0 if scales_BS is None else scales_BS.stride(0), heads, size, together, padded,
        max(32, triton.next_power_of_2(size)), SCORES_KEYS, _how(q_BQIC), codes, num_stages=2,
    )  # fmt: skip
    return out


def _how(x: Tensor) -> str:
    """Products of 16-bit numbers are exact; float32 goes through three products of shorter ones, nearly as exact.

    The interpreter would multiply the bits of bfloat16 as whole numbers: there all are opened to float32 first.
    """
    if INTERPRETED:
        return "ieee"
    return "tf32x3" if x.dtype == torch.float32 else "tf32"
