"""A site's reading of the residual lanes and writing back to them, each in a few Triton kernels, with gradients.

Shape letters: T tokens, N lanes, W hidden, C = N W, M mixing numbers = N (2 + N).
Source: the formulas of core/hyper.py (mHC, arXiv 2512.24880), which are the reference. Reading is a product with all
lanes and a sum of squares in one pass, Sinkhorn (sinkhorn_triton.py), and a pass that collapses the lanes; writing is
one pass. Operators are opaque to the compiler. Tested in the interpreter and on an H200
(docs/gpu_h200.md); `DSV4_TRITON` switches them.
"""

from __future__ import annotations

import importlib.util
import os
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dsv4.ops import sinkhorn_triton
from dsv4.ops.switches import possible, taken_on

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
WANTED = INTERPRETED or possible("DSV4_TRITON")
AVAILABLE = WANTED and importlib.util.find_spec("triton") is not None

if TYPE_CHECKING or AVAILABLE:
    import triton
    import triton.language as tl

LANES = (2, 4)
TOKENS, STEP = 16, 128  # of a tile of the product
WIDE = 1024  # numbers of a lane that a program of the passes takes at a time


def applies(x_BTNW: Tensor, lanes: int) -> bool:
    """Whether the kernels may be taken for these lanes."""
    if not AVAILABLE or torch.compiler.is_compiling():  # the compiler joins a site's operations as well
        return False
    ready = lanes in LANES and x_BTNW.dtype != torch.float64
    return ready and (INTERPRETED or taken_on(x_BTNW.device, "DSV4_TRITON"))


if AVAILABLE:

    @triton.jit
    def _narrowed(x, NARROW: tl.constexpr, HOW: tl.constexpr):
        # The interpreter cannot multiply bfloat16: there it is rounded, then opened.
        x = x.to(tl.bfloat16) if NARROW else x.to(tl.float32)
        return x.to(tl.float32) if HOW == "ieee" else x

    @triton.jit
    def _per_number(of3, m, N: tl.constexpr):
        """One of three scales for each mixing number."""
        first, second, third = tl.load(of3), tl.load(of3 + 1), tl.load(of3 + 2)
        found = tl.where(m < N, first.to(tl.float32), second.to(tl.float32))
        return tl.where(m < 2 * N, found, third.to(tl.float32))

    @triton.jit
    def _project_kernel(
        x, fn, scale, base, raw, root, pre, post, logits, T, C, eps, norm_eps, N: tl.constexpr, MP: tl.constexpr,
        TB: tl.constexpr, STEP: tl.constexpr, NARROW: tl.constexpr, HOW: tl.constexpr,
    ):  # fmt: skip
        M: tl.constexpr = N * (2 + N)
        t, m, c = tl.program_id(0) * TB + tl.arange(0, TB), tl.arange(0, MP), tl.arange(0, STEP)
        at_x = x + t[:, None].to(tl.int64) * C
        total = tl.zeros((TB, MP), tl.float32)
        squares = tl.zeros((TB,), tl.float32)
        for first in range(0, C, STEP):
            inside = (first + c < C)[None, :]
            x_tc = tl.load(at_x + first + c[None, :], mask=(t < T)[:, None] & inside, other=0.0)
            f_mc = tl.load(fn + m[:, None] * C + first + c[None, :], mask=(m < M)[:, None] & inside, other=0.0)
            squares += tl.sum(x_tc.to(tl.float32) * x_tc.to(tl.float32), 1)
            given = tl.trans(_narrowed(f_mc, NARROW, HOW))
            total += tl.dot(_narrowed(x_tc, NARROW, HOW), given, input_precision=HOW)
        scale_t = 1.0 / tl.sqrt(squares / C + norm_eps)
        tl.store(root + t, scale_t, mask=t < T)
        real = (t < T)[:, None] & (m < M)[None, :]
        tl.store(raw + t[:, None] * M + m[None, :], total, mask=real)
        shift = tl.load(base + m, mask=m < M, other=0.0).to(tl.float32)
        value = total * scale_t[:, None] * _per_number(scale, m, N)[None, :] + shift[None, :]
        open_ = 1.0 / (1.0 + tl.exp(-value))
        tl.store(pre + t[:, None] * N + m[None, :], open_ + eps, mask=real & (m < N)[None, :])
        second = ((m >= N) & (m < 2 * N))[None, :]
        tl.store(post + t[:, None] * N + (m - N)[None, :], 2.0 * open_, mask=real & second)
        tl.store(logits + t[:, None] * (N * N) + (m - 2 * N)[None, :], value, mask=real & (m >= 2 * N)[None, :])

    @triton.jit
    def _collapse_kernel(x, pre, out, W, N: tl.constexpr, WB: tl.constexpr):
        t, w = tl.program_id(0).to(tl.int64), tl.program_id(1) * WB + tl.arange(0, WB)
        total = tl.zeros((WB,), tl.float32)
        for n in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
            lane = tl.load(x + (t * N + n) * W + w, mask=w < W, other=0.0).to(tl.float32)
            total += tl.load(pre + t * N + n) * lane
        tl.store(out + t * W + w, total, mask=w < W)

    @triton.jit
    def _write_kernel(x, y, post, comb, out, W, N: tl.constexpr, WB: tl.constexpr):
        t, w = tl.program_id(0).to(tl.int64), tl.program_id(1) * WB + tl.arange(0, WB)
        y_w = tl.load(y + t * W + w, mask=w < W, other=0.0).to(tl.float32)
        for k in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
            total = tl.load(post + t * N + k) * y_w
            for j in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
                lane = tl.load(x + (t * N + j) * W + w, mask=w < W, other=0.0).to(tl.float32)
                total += tl.load(comb + t * (N * N) + j * N + k) * lane
            tl.store(out + (t * N + k) * W + w, total, mask=w < W)

    @triton.jit
    def _write_back_kernel(x, y, post, comb, g, dx, dy, dpost, dcomb, W, N: tl.constexpr, WB: tl.constexpr):
        t, w, k, jk = tl.program_id(0).to(tl.int64), tl.arange(0, WB), tl.arange(0, N), tl.arange(0, N * N)
        by_post, by_comb = tl.zeros((N, WB), tl.float32), tl.zeros((N * N, WB), tl.float32)
        for first in range(0, W, WB):
            at, inside = first + w, first + w < W
            g_kw = tl.load(g + (t * N + k)[:, None] * W + at[None, :], mask=inside[None, :], other=0.0).to(tl.float32)
            by_post += g_kw * tl.load(y + t * W + at, mask=inside, other=0.0).to(tl.float32)[None, :]
            x_rows = tl.load(x + (t * N + jk // N)[:, None] * W + at[None, :], mask=inside[None, :], other=0.0)
            g_rows = tl.load(g + (t * N + jk % N)[:, None] * W + at[None, :], mask=inside[None, :], other=0.0)
            by_comb += x_rows.to(tl.float32) * g_rows.to(tl.float32)
            slope_y = tl.zeros((WB,), tl.float32)
            for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
                g_w = tl.load(g + (t * N + i) * W + at, mask=inside, other=0.0).to(tl.float32)
                slope_y += tl.load(post + t * N + i) * g_w
            tl.store(dy + t * W + at, slope_y, mask=inside)
            for j in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
                slope = tl.zeros((WB,), tl.float32)
                for i in tl.static_range(N):  # pyright: ignore[reportGeneralTypeIssues]
                    g_w = tl.load(g + (t * N + i) * W + at, mask=inside, other=0.0).to(tl.float32)
                    slope += tl.load(comb + t * (N * N) + j * N + i) * g_w
                tl.store(dx + (t * N + j) * W + at, slope, mask=inside)
        tl.store(dpost + t * N + k, tl.sum(by_post, 1))
        tl.store(dcomb + t * (N * N) + jk, tl.sum(by_comb, 1))

    @triton.jit
    def _pre_back_kernel(x, g, dpre, W, N: tl.constexpr, WB: tl.constexpr):
        t, w, n = tl.program_id(0).to(tl.int64), tl.arange(0, WB), tl.arange(0, N)
        total = tl.zeros((N, WB), tl.float32)
        for first in range(0, W, WB):
            at, inside = first + w, first + w < W
            lanes = tl.load(x + (t * N + n)[:, None] * W + at[None, :], mask=inside[None, :], other=0.0)
            total += lanes.to(tl.float32) * tl.load(g + t * W + at, mask=inside, other=0.0).to(tl.float32)[None, :]
        tl.store(dpre + t * N + n, tl.sum(total, 1))

    @triton.jit
    def _read_back_kernel(
        x, fn, scale, raw, root, pre, post, g, dpre, dpost, dlogits, dx, draw, dvalue, T, C, W, eps,
        N: tl.constexpr, MP: tl.constexpr, TB: tl.constexpr, STEP: tl.constexpr, NARROW: tl.constexpr,
        HOW: tl.constexpr,
    ):  # fmt: skip
        M: tl.constexpr = N * (2 + N)
        t, m = tl.program_id(0) * TB + tl.arange(0, TB), tl.arange(0, MP)
        c = tl.program_id(1) * STEP + tl.arange(0, STEP)
        here, second = (t < T)[:, None], ((m >= N) & (m < 2 * N))[None, :]
        real = here & (m < M)[None, :]
        at_first, at_second = t[:, None] * N + m[None, :], t[:, None] * N + (m - N)[None, :]
        in_first = here & (m < N)[None, :]
        open_ = tl.load(pre + at_first, mask=in_first, other=0.0) - eps
        slope = tl.load(dpre + at_first, mask=in_first, other=0.0) * open_ * (1.0 - open_)
        double = tl.load(post + at_second, mask=here & second, other=0.0)
        given = tl.load(dpost + at_second, mask=here & second, other=0.0)
        slope = tl.where(second, given * double * (1.0 - 0.5 * double), slope)
        at_third = t[:, None] * (N * N) + (m - 2 * N)[None, :]
        third = tl.load(dlogits + at_third, mask=real & (m >= 2 * N)[None, :], other=0.0)
        slope = tl.where((m >= 2 * N)[None, :], third, slope)
        mixed = slope * _per_number(scale, m, N)[None, :]
        root_t = tl.load(root + t, mask=t < T, other=0.0)
        products = tl.load(raw + t[:, None] * M + m[None, :], mask=real, other=0.0)
        by_root = -tl.sum(mixed * products, 1) * root_t * root_t * root_t / C
        mixed = mixed * root_t[:, None]
        if tl.program_id(1) == 0:
            tl.store(dvalue + t[:, None] * M + m[None, :], slope, mask=real)
            tl.store(draw + t[:, None] * M + m[None, :], mixed, mask=real)
        inside = here & (c < C)[None, :]
        f_mc = tl.load(fn + m[:, None] * C + c[None, :], mask=(m < M)[:, None] & (c < C)[None, :], other=0.0)
        found = tl.dot(_narrowed(mixed, NARROW, HOW), _narrowed(f_mc, NARROW, HOW), input_precision=HOW)
        weight = tl.load(pre + t[:, None] * N + (c // W)[None, :], mask=inside, other=0.0)
        g_tc = tl.load(g + t[:, None].to(tl.int64) * W + (c % W)[None, :], mask=inside, other=0.0).to(tl.float32)
        at_x = t[:, None].to(tl.int64) * C + c[None, :]
        x_tc = tl.load(x + at_x, mask=inside, other=0.0).to(tl.float32)
        tl.store(dx + at_x, found + weight * g_tc + by_root[:, None] * x_tc, mask=inside)


def _how(narrow: bool) -> str:
    return "ieee" if INTERPRETED else "tf32" if narrow else "tf32x3"


def _empty(x: Tensor, *shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=x.device)


@torch.library.custom_op("dsv4::lanes_read", mutates_args=())
def lanes_read(
    x_TNW: Tensor, fn_MC: Tensor, scale_3: Tensor, base_M: Tensor, iterations: int, eps: float, norm_eps: float,
    narrow: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Collapsed lanes [T, W], `post` [T, N], `comb` [T, N, N]; then for the gradient: raw products, roots, `pre`,
    logits. `narrow` multiplies in bfloat16."""
    x, (T, N, W) = x_TNW.contiguous(), x_TNW.shape
    M = N * (2 + N)
    raw, root, pre, post, logits = (_empty(x, T, *rest) for rest in ((M,), (), (N,), (N,), (N, N)))
    _project_kernel[(triton.cdiv(T, TOKENS),)](
        x, fn_MC.contiguous(), scale_3, base_M, raw, root, pre, post, logits, T, N * W, eps, norm_eps, N,
        max(16, triton.next_power_of_2(M)), TOKENS, STEP, narrow, _how(narrow),
    )  # fmt: skip
    comb = sinkhorn_triton.sinkhorn(logits, iterations, eps)
    out = torch.empty(T, W, dtype=x.dtype, device=x.device)
    block = min(WIDE, triton.next_power_of_2(W))
    _collapse_kernel[(T, triton.cdiv(W, block))](x, pre, out, W, N, block)
    return out, post, comb, raw, root, pre, logits


@lanes_read.register_fake
def _(x_TNW, fn_MC, scale_3, base_M, iterations, eps, norm_eps, narrow):  # noqa: ANN001, ANN202 - as above
    T, N, W = x_TNW.shape
    shapes = ((N,), (N, N), (N * (2 + N),), (), (N,), (N, N))
    small = [x_TNW.new_empty((T, *rest), dtype=torch.float32) for rest in shapes]
    return x_TNW.new_empty(T, W), *small


@torch.library.custom_op("dsv4::lanes_read_backward", mutates_args=())
def lanes_read_backward(
    x_TNW: Tensor, fn_MC: Tensor, scale_3: Tensor, raw_TM: Tensor, root_T: Tensor, pre_TN: Tensor, post_TN: Tensor,
    logits_TNN: Tensor, slope_TW: Tensor, slope_post: Tensor, slope_comb: Tensor, iterations: int, eps: float,
    narrow: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Gradients of the lanes [T, N, W], of `fn` [M, C], `scale` [3] and `base` [M], the last three in float32."""
    x, (T, N, W) = x_TNW.contiguous(), x_TNW.shape
    M, g = N * (2 + N), slope_TW.contiguous()
    dpre, draw, dvalue = _empty(x, T, N), _empty(x, T, M), _empty(x, T, M)
    block = min(WIDE // 2, triton.next_power_of_2(W))
    _pre_back_kernel[(T,)](x, g, dpre, W, N, block)
    dlogits = sinkhorn_triton.sinkhorn_backward(logits_TNN, slope_comb, iterations, eps)
    dx = torch.empty_like(x)
    _read_back_kernel[(triton.cdiv(T, TOKENS), triton.cdiv(N * W, STEP))](
        x, fn_MC.contiguous(), scale_3, raw_TM, root_T, pre_TN, post_TN, g, dpre, slope_post.contiguous(), dlogits, dx,
        draw, dvalue, T, N * W, W, eps, N, max(16, triton.next_power_of_2(M)), TOKENS, STEP, narrow, _how(narrow),
    )  # fmt: skip
    kind = torch.bfloat16 if narrow else torch.float32
    dfn = (draw.to(kind).mT @ x.flatten(1).to(kind)).float()
    each_M = (dvalue * raw_TM * root_T[:, None]).sum(0)
    dscale = torch.stack([part.sum() for part in each_M.split([N, N, N * N])])
    return dx, dfn, dscale, dvalue.sum(0)


@lanes_read_backward.register_fake
def _(x_TNW, fn_MC, scale_3, raw_TM, *rest):  # noqa: ANN001, ANN002, ANN202 - as above
    wide = [x_TNW.new_empty(size, dtype=torch.float32) for size in (fn_MC.shape, (3,), raw_TM.shape[1:])]
    return torch.empty_like(x_TNW, memory_format=torch.contiguous_format), *wide


def _save_read(ctx, inputs, output) -> None:  # noqa: ANN001 - signature given by torch.library
    x_TNW, fn_MC, scale_3, base_M, ctx.iterations, ctx.eps, _, ctx.narrow = inputs
    _, post_TN, _, raw_TM, root_T, pre_TN, logits_TNN = output
    ctx.save_for_backward(x_TNW, fn_MC, scale_3, raw_TM, root_T, pre_TN, post_TN, logits_TNN)
    ctx.base = base_M.dtype
    ctx.set_materialize_grads(False)  # nobody has a gradient for what is only kept


def _read_gradient(ctx, slope_TW, slope_post, slope_comb, *unused):  # noqa: ANN001, ANN002, ANN202 - as above
    kept, given = ctx.saved_tensors, (slope_TW, slope_post, slope_comb)
    likes = (kept[0][:, 0], kept[6], kept[7])
    slopes = [torch.zeros_like(like) if one is None else one for one, like in zip(given, likes, strict=True)]
    found = lanes_read_backward(*kept, *slopes, ctx.iterations, ctx.eps, ctx.narrow)
    return found[0], found[1].to(kept[1].dtype), found[2].to(kept[2].dtype), found[3].to(ctx.base), *[None] * 4


lanes_read.register_autograd(_read_gradient, setup_context=_save_read)


@torch.library.custom_op("dsv4::lanes_write", mutates_args=())
def lanes_write(x_TNW: Tensor, y_TW: Tensor, post_TN: Tensor, comb_TNN: Tensor) -> Tensor:
    """Lane k becomes post_k · y + Σ_j comb[j, k] · x_j: [T, N, W]."""
    x, (T, N, W) = x_TNW.contiguous(), x_TNW.shape
    out = torch.empty_like(x)
    block = min(WIDE, triton.next_power_of_2(W))
    _write_kernel[(T, triton.cdiv(W, block))](
        x, y_TW.contiguous(), post_TN.contiguous(), comb_TNN.contiguous(), out, W, N, block
    )
    return out


@lanes_write.register_fake
def _(x_TNW, y_TW, post_TN, comb_TNN):  # noqa: ANN001, ANN202 - as above
    return torch.empty_like(x_TNW, memory_format=torch.contiguous_format)


@torch.library.custom_op("dsv4::lanes_write_backward", mutates_args=())
def lanes_write_backward(
    x_TNW: Tensor, y_TW: Tensor, post_TN: Tensor, comb_TNN: Tensor, slope_TNW: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of all four inputs."""
    x, y, (T, N, W) = x_TNW.contiguous(), y_TW.contiguous(), x_TNW.shape
    dx, dy, dpost, dcomb = torch.empty_like(x), torch.empty_like(y), _empty(x, T, N), _empty(x, T, N, N)
    block = min(WIDE // 4, triton.next_power_of_2(W))
    _write_back_kernel[(T,)](
        x, y, post_TN.contiguous(), comb_TNN.contiguous(), slope_TNW.contiguous(), dx, dy, dpost, dcomb, W, N, block
    )
    return dx, dy, dpost, dcomb


@lanes_write_backward.register_fake
def _(x_TNW, y_TW, post_TN, comb_TNN, slope_TNW):  # noqa: ANN001, ANN202 - as above
    found = [torch.empty_like(given, memory_format=torch.contiguous_format) for given in (x_TNW, y_TW)]
    return *found, post_TN.new_empty(post_TN.shape), comb_TNN.new_empty(comb_TNN.shape)


def _save_write(ctx, inputs, output) -> None:  # noqa: ANN001 - as above
    ctx.save_for_backward(*inputs)


def _write_gradient(ctx: Any, slope_TNW: Tensor) -> tuple[Tensor, ...]:
    return lanes_write_backward(*ctx.saved_tensors, slope_TNW)


lanes_write.register_autograd(_write_gradient, setup_context=_save_write)


def read(
    x_BTNW: Tensor, fn_MC: Tensor, scale_3: Tensor, base_M: Tensor, *, iterations: int, eps: float, norm_eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What `HyperLanes.read` gives: [B, T, W], [B, T, N], [B, T, N, N]; in bfloat16 where the plain form is."""
    narrow = torch.is_autocast_enabled(x_BTNW.device.type) or x_BTNW.dtype == fn_MC.dtype == torch.bfloat16
    found = lanes_read(x_BTNW.flatten(0, 1), fn_MC, scale_3, base_M, iterations, eps, norm_eps, narrow)
    out_BTW, post_BTN, comb_BTNN = (part.unflatten(0, x_BTNW.shape[:2]) for part in found[:3])
    return out_BTW, post_BTN, comb_BTNN


def write(x_BTNW: Tensor, y_BTW: Tensor, post_BTN: Tensor, comb_BTNN: Tensor) -> Tensor:
    """What `HyperLanes.write` gives: [B, T, N, W]."""
    flat = (given.flatten(0, 1) for given in (x_BTNW, y_BTW, post_BTN, comb_BTNN))
    return lanes_write(*flat).unflatten(0, x_BTNW.shape[:2])
