"""Residual lanes with manifold-constrained mixing (mHC), in two passes or one, and with free mixing for comparison.

Shape letters: B batch, T tokens, N lanes, W hidden, M mixing numbers = N (2 + N).
Source: arXiv 2512.24880 and the V4 release: rows of `fn` are [pre | post | comb]; `comb` passes Sinkhorn and is applied
transposed; the division by the norm comes after the product. In V4.1 (single pass) a site reads by the `pre` of the
site before, so that mixing weights and what they mix are read at once. Free mixing is that of Hyper-Connections
(arXiv 2409.19606): tanh(product) · scale + base for all three, with mHC's projection over all lanes at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dsv4.core.config import CoreConfig
from dsv4.ops import lanes_triton
from dsv4.ops import sinkhorn as ops
from dsv4.ops.linear import linear
from dsv4.ops.numbers import wide

OWN_LANE = 2.0  # logit of reading the site's own lane at the start, and minus that of the others
KEPT = 4.0  # logit of a lane staying where it is


class HyperLanes(nn.Module):
    """How one site (attention or feed-forward) reads from the lanes and writes back to them.

    At the start site i reads mostly lane i mod N and lanes stay apart, which is near a plain residual stream.
    """

    def __init__(self, config: CoreConfig, site: int) -> None:
        super().__init__()
        lanes = config.lanes
        self.lanes, self.iterations, self.eps, self.norm_eps = lanes.count, lanes.iterations, lanes.eps, config.norm_eps
        self.free = lanes.mixing == "hyper"
        mixing = lanes.count * (2 + lanes.count)
        self.fn = nn.Parameter(torch.randn(mixing, lanes.count * config.hidden) * 0.02)
        self.base = nn.Parameter(_free_start(lanes.count, site) if self.free else _start(lanes.count, site))
        self.scale = nn.Parameter(torch.full((3,), 0.01))

    def read(self, x_BTNW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the site works on [B, T, W], and the `post` [B, T, N] and `comb` [B, T, N, N] for `write`."""
        if not self.free and lanes_triton.applies(x_BTNW, self.lanes):
            kept = {"iterations": self.iterations, "eps": self.eps, "norm_eps": self.norm_eps}
            return lanes_triton.read(x_BTNW, self.fn, self.scale, self.base, **kept)
        pre_BTN, post_BTN, comb_BTNN = self.mix(x_BTNW)
        return collapse(x_BTNW, pre_BTN), post_BTN, comb_BTNN

    def mix(self, x_BTNW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`pre` [B, T, N], by which the lanes make what this site (in one pass: the next) works on, `post`, `comb`."""
        N = self.lanes
        mixes_BTM = self._mixes(x_BTNW)
        base_M, scale_3 = wide(self.base), wide(self.scale)
        if self.free:
            scale_M = torch.cat([one.expand(size) for one, size in zip(scale_3, (N, N, N * N), strict=True)])
            mixes_BTM = torch.tanh(mixes_BTM) * scale_M + base_M
            pre_BTN, post_BTN, free_BTM = mixes_BTM.split([N, N, N * N], -1)
            return pre_BTN, post_BTN, free_BTM.unflatten(-1, (N, N))
        pre_BTN = torch.sigmoid(mixes_BTM[..., :N] * scale_3[0] + base_M[:N]) + self.eps
        post_BTN = 2 * torch.sigmoid(mixes_BTM[..., N : 2 * N] * scale_3[1] + base_M[N : 2 * N])
        logits_BTNN = (mixes_BTM[..., 2 * N :] * scale_3[2] + base_M[2 * N :]).unflatten(-1, (N, N))
        comb_BTNN = ops.sinkhorn(logits_BTNN, iterations=self.iterations, eps=self.eps)
        return pre_BTN, post_BTN, comb_BTNN

    def write(self, x_BTNW: Tensor, y_BTW: Tensor, post_BTN: Tensor, comb_BTNN: Tensor) -> Tensor:
        """Lane k becomes post_k · y + Σ_j comb[j, k] · x_j."""
        if not self.free and lanes_triton.applies(x_BTNW, self.lanes):
            return lanes_triton.write(x_BTNW, y_BTW, post_BTN, comb_BTNN)
        new_BTNW = post_BTN[..., None] * y_BTW[:, :, None]
        for lane in range(self.lanes):
            new_BTNW = new_BTNW + comb_BTNN[:, :, lane, :, None] * x_BTNW[:, :, lane, None]
        return new_BTNW.to(x_BTNW.dtype)

    def _mixes(self, x_BTNW: Tensor) -> Tensor:
        flat = x_BTNW.flatten(-2)
        scale_BT1 = torch.rsqrt(wide(flat).square().mean(-1, keepdim=True) + self.norm_eps)
        return wide(_projected(flat, self.fn)) * scale_BT1


class HyperOut(nn.Module):
    """The last collapse of the lanes, without Sinkhorn."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        lanes = config.lanes
        self.eps, self.norm_eps = lanes.eps, config.norm_eps
        self.fn = nn.Parameter(torch.randn(lanes.count, lanes.count * config.hidden) * 0.02)
        self.base = nn.Parameter(torch.zeros(lanes.count))
        self.scale = nn.Parameter(torch.full((1,), 0.01))

    def forward(self, x_BTNW: Tensor) -> Tensor:
        """Σ_m sigmoid(...)_m · x_m: [B, T, W]."""
        flat = x_BTNW.flatten(-2)
        scale_BT1 = torch.rsqrt(wide(flat).square().mean(-1, keepdim=True) + self.norm_eps)
        mixes_BTN = wide(_projected(flat, self.fn)) * scale_BT1
        return collapse(x_BTNW, torch.sigmoid(mixes_BTN * wide(self.scale) + wide(self.base)) + self.eps)


def _projected(flat: Tensor, fn: Tensor) -> Tensor:
    # Released models keep this projection in float32 while activations are bfloat16.
    mixed = flat.dtype != fn.dtype and not torch.is_autocast_enabled(flat.device.type)
    return linear(flat.to(fn.dtype) if mixed else flat, fn)


def first_lane(x_BTNW: Tensor) -> Tensor:
    """The weights [B, T, N] by which the first site of a single pass reads: lane 0 alone."""
    pre_BTN = torch.zeros(x_BTNW.shape[:-1], dtype=wide(x_BTNW).dtype, device=x_BTNW.device)
    pre_BTN[..., 0] = 1
    return pre_BTN


def collapse(x_BTNW: Tensor, pre_BTN: Tensor) -> Tensor:
    """The lanes as one stream: Σ_n pre_n · x_n, [B, T, W]."""
    out_BTW = pre_BTN[..., 0, None] * x_BTNW[:, :, 0]
    for lane in range(1, x_BTNW.shape[2]):
        out_BTW = out_BTW + pre_BTN[..., lane, None] * x_BTNW[:, :, lane]
    return out_BTW.to(x_BTNW.dtype)


def _start(lanes: int, site: int) -> Tensor:
    pre_N = torch.full((lanes,), -OWN_LANE)
    pre_N[site % lanes] = OWN_LANE
    post_N = torch.full((lanes,), -0.5)
    post_N[site % lanes] = 0.5
    return torch.cat((pre_N, post_N, (torch.eye(lanes) * KEPT).flatten()))


def _free_start(lanes: int, site: int) -> Tensor:
    pre_N = torch.zeros(lanes)
    pre_N[site % lanes] = 1.0
    return torch.cat((pre_N, torch.ones(lanes), torch.eye(lanes).flatten()))
