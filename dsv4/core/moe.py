"""Routed experts beside a shared one, with a router that keeps loads even without a loss.

Shape letters: B batch, T tokens, W hidden, E experts, K chosen, F inner size, L layers.
Source: V4 report (square root of softplus as score, no groups, weights from unbiased scores, times 1.5) and loss-free
balancing (arXiv 2408.15664). Experts are gated units, SiLU(gate) · up.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.core.config import CoreConfig
from dsv4.ops.numbers import wide

COMPARE_UP_TO = 16  # experts that are ranked by comparing all pairs, which fuses; more go through topk
TOGETHER_UP_TO = 8192  # widest sum of inner sizes computed for every token, chosen or not


class Router(nn.Module):
    """Scores of the experts; `bias` takes part in choosing only and is moved by `nudge`, not by gradients."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        part = config.experts
        self.chosen, self.scale = part.chosen, part.scale
        self.weight = nn.Parameter(torch.randn(part.count, config.hidden) * config.hidden**-0.5)
        self.register_buffer("bias", torch.zeros(part.count))
        self.bias: Tensor

    def forward(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [B, T, E] with K of them not zero, which are chosen [B, T, E], and scores [B, T, E] that sum to 1."""
        with torch.autocast(x_BTW.device.type, enabled=False):
            logits_BTE = F.linear(wide(x_BTW), wide(self.weight))
        scores_BTE = torch.sqrt(F.softplus(logits_BTE) + 1e-20)
        chosen_BTE = best(scores_BTE.detach() + self.bias, self.chosen)
        kept_BTE = scores_BTE * chosen_BTE
        weights_BTE = kept_BTE * (self.scale / (kept_BTE.sum(-1, keepdim=True) + 1e-20))
        return weights_BTE, chosen_BTE, scores_BTE / scores_BTE.sum(-1, keepdim=True)

    @torch.no_grad()
    def nudge(self, load_E: Tensor, rate: float) -> None:
        """Raise the bias of experts with less than the mean load by `rate`, lower that of the others."""
        self.bias += rate * torch.sign(load_E.float().mean() - load_E.float()).to(self.bias.dtype)


def best(scores_E: Tensor, k: int) -> Tensor:
    """Boolean of the k largest along the last dimension; of equal ones the earlier."""
    count = scores_E.shape[-1]
    if count > COMPARE_UP_TO:
        order_K = scores_E.topk(k, dim=-1).indices
        return torch.zeros_like(scores_E, dtype=torch.bool).scatter(-1, order_K, True)
    one, other = scores_E[..., :, None], scores_E[..., None, :]
    places = torch.arange(count, device=scores_E.device)
    beaten = (other > one) | ((other == one) & (places[None, :] < places[:, None]))
    return beaten.sum(-1) < k


class Experts(nn.Module):
    """The feed-forward part of a block."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        part = config.experts
        self.router = Router(config)
        self.experts_in = nn.Parameter(torch.empty(part.count, 2 * part.inner, config.hidden))  # [gate | up]
        self.experts_out = nn.Parameter(torch.empty(part.count, config.hidden, part.inner))
        self.shared_in = nn.Linear(config.hidden, 2 * part.shared_inner, bias=False)
        self.shared_out = nn.Linear(part.shared_inner, config.hidden, bias=False)

    def forward(self, x_BTW: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Output [B, T, W], tokens sent to each expert [E], and the balance loss (1 when even), a scalar."""
        weights_BTE, chosen_BTE, shares_BTE = self.router(x_BTW)
        count, inner = self.experts_out.shape[0], self.experts_out.shape[2]
        tokens = x_BTW.shape[0] * x_BTW.shape[1]
        if count * inner <= TOGETHER_UP_TO and tokens > 4:
            out_BTW = self._together(x_BTW, weights_BTE)
        else:
            out_BTW = self._routed(x_BTW, weights_BTE, chosen_BTE)
        load_BE = chosen_BTE.to(shares_BTE.dtype).sum(1)
        often_BE = load_BE * (count / (x_BTW.shape[1] * self.router.chosen))
        return out_BTW, load_BE.sum(0), (often_BE * shares_BTE.mean(1)).sum(-1).mean()

    def _together(self, x_BTW: Tensor, weights_BTE: Tensor) -> Tensor:
        """All experts and the shared one as a single wide unit whose inner parts are scaled by the router: exact."""
        count, width, inner = self.experts_out.shape
        first_2E = self.experts_in.unflatten(1, (2, inner)).transpose(0, 1).flatten(1, 2)
        shared_2F = self.shared_in.weight.unflatten(0, (2, -1))
        gate, up = F.linear(x_BTW, torch.cat((first_2E, shared_2F), 1).flatten(0, 1)).chunk(2, -1)
        scale_BTF = weights_BTE[..., None].expand(-1, -1, -1, inner).flatten(-2).to(gate.dtype)
        scale_BTF = torch.cat((scale_BTF, scale_BTF.new_ones(()).expand(*x_BTW.shape[:2], shared_2F.shape[1])), -1)
        last_WF = torch.cat((self.experts_out.transpose(0, 1).reshape(width, count * inner), self.shared_out.weight), 1)
        return F.linear(F.silu(gate) * up * scale_BTF, last_WF)

    def _routed(self, x_BTW: Tensor, weights_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
        """Only chosen experts compute, each for its own tokens."""
        gate, up = self.shared_in(x_BTW).chunk(2, -1)
        out_NW = self.shared_out(F.silu(gate) * up).flatten(0, 1)
        x_NW, weights_NE, chosen_NE = x_BTW.flatten(0, 1), weights_BTE.flatten(0, 1), chosen_BTE.flatten(0, 1)
        for expert in chosen_NE.any(0).nonzero()[:, 0].tolist():
            rows = chosen_NE[:, expert].nonzero()[:, 0]
            gate, up = F.linear(x_NW[rows], self.experts_in[expert]).chunk(2, -1)
            part = F.linear(F.silu(gate) * up, self.experts_out[expert])
            out_NW = out_NW.index_add(0, rows, part * weights_NE[rows, expert, None].to(part.dtype))
        return out_NW.view_as(x_BTW)
