"""Routed experts beside a shared one, with a router that keeps loads even without a loss; and the plain dense unit.

Shape letters: B batch, T tokens, W hidden, E experts, K chosen, G groups, F inner size, L layers, V vocabulary.
Source: V2 report (softmax), V3 report (sigmoid, best groups first, weights from unbiased scores), V4 report (square
root of softplus, no groups; first layers choose by token id; gated units with a limit), and loss-free balancing
(arXiv 2408.15664). Experts are gated units, SiLU(gate) · up.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dsv4.core.config import CoreConfig
from dsv4.ops import routed
from dsv4.ops.linear import Linear, linear
from dsv4.ops.numbers import wide

COMPARE_UP_TO = 16  # experts that are ranked by comparing all pairs, which fuses; more go through topk
TOGETHER_UP_TO = 8192  # widest sum of inner sizes computed for every token, chosen or not


class Router(nn.Module):
    """Scores of the experts; `bias` takes part in choosing only and is moved by `nudge`, not by gradients.

    In `hashed` layers a fixed table of token ids chooses, and the scores only weigh. Where `picture_bias` is there,
    tokens of pictures (ids below 0) are chosen for with it instead of `bias`.
    """

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__()
        part = config.experts
        self.part, self.chosen, self.scale = part, part.chosen, part.scale
        self.weight = nn.Parameter(torch.randn(part.count, config.hidden) * config.hidden**-0.5)
        hashed = layer in part.hashed
        self.register_buffer("bias", None if hashed or part.score == "softmax" else torch.zeros(part.count))
        self.register_buffer(
            "routes", even_routes(config.vocab_size, part.count, part.chosen, layer) if hashed else None
        )
        self.register_buffer("picture_bias", torch.zeros(part.count) if part.picture_bias else None)
        self.bias: Tensor | None
        self.picture_bias: Tensor | None
        self.routes: Tensor | None

    def forward(self, x_BTW: Tensor, token_ids_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Weights [B, T, E] with K of them not zero, which are chosen [B, T, E], and scores [B, T, E] that sum to 1."""
        with torch.autocast(x_BTW.device.type, enabled=False):
            logits_BTE = F.linear(wide(x_BTW), wide(self.weight))
        scores_BTE = _scores(logits_BTE, self.part.score)
        chosen_BTE = self._choose(scores_BTE.detach(), token_ids_BT)
        kept_BTE = scores_BTE * chosen_BTE
        if self.part.normalised:
            weights_BTE = kept_BTE * (self.scale / (kept_BTE.sum(-1, keepdim=True) + 1e-20))
        else:
            weights_BTE = kept_BTE * self.scale
        return weights_BTE, chosen_BTE, scores_BTE / scores_BTE.sum(-1, keepdim=True)

    def _choose(self, scores_BTE: Tensor, token_ids_BT: Tensor | None) -> Tensor:
        if self.routes is not None:
            if token_ids_BT is None:
                raise ValueError("a layer that routes by token id needs token ids, even where embeddings are given")
            nothing_BTE = torch.zeros_like(scores_BTE, dtype=torch.bool)
            return nothing_BTE.scatter(-1, self.routes[token_ids_BT], True)
        ranked_BTE = scores_BTE if self.bias is None else scores_BTE + self.bias
        if self.picture_bias is not None and token_ids_BT is not None:
            ranked_BTE = torch.where(token_ids_BT[..., None] < 0, scores_BTE + self.picture_bias, ranked_BTE)
        if self.part.groups > 1:
            best_two = 1 if self.part.score == "softmax" else 2
            ranked_BTE = in_best_groups(ranked_BTE, self.part.groups, self.part.groups_chosen, by=best_two)
        return best(ranked_BTE, self.chosen)

    @torch.no_grad()
    def nudge(self, load_E: Tensor, rate: float) -> None:
        """Raise the bias of experts with less than the mean load by `rate`, lower that of the others."""
        if self.bias is not None:
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


def _scores(logits_BTE: Tensor, kind: str) -> Tensor:
    if kind == "softmax":
        return torch.softmax(logits_BTE, -1)
    return torch.sigmoid(logits_BTE) if kind == "sigmoid" else torch.sqrt(F.softplus(logits_BTE) + 1e-20)


def in_best_groups(scores_E: Tensor, groups: int, chosen: int, *, by: int) -> Tensor:
    """Scores with those outside the `chosen` best of `groups` groups at minus infinity; a group counts as the sum of
    its `by` best."""
    grouped_GE = scores_E.unflatten(-1, (groups, -1))
    kept_G = best(grouped_GE.topk(min(by, grouped_GE.shape[-1]), dim=-1).values.sum(-1), chosen)
    return grouped_GE.masked_fill(~kept_G[..., None], float("-inf")).flatten(-2)


def even_routes(vocabulary: int, count: int, chosen: int, layer: int) -> Tensor:
    """A table [V, K] that gives every token K different experts and every expert as many tokens as the next.

    Tokens are shuffled first, by a generator of the layer's own, so that neighbouring ids do not share experts.
    """
    device = torch.empty(0).device
    if device.type == "meta":
        return torch.empty(vocabulary, chosen, dtype=torch.long)
    order_V = torch.randperm(vocabulary, generator=torch.Generator().manual_seed(layer), device="cpu")
    return ((order_V[:, None] * chosen + torch.arange(chosen, device="cpu")) % count).to(device)


def gated(gate_F: Tensor, up_F: Tensor, limit: float | None) -> Tensor:
    """SiLU(gate) · up, with gate cut above `limit` and up at both sides of it."""
    if limit is not None:
        gate_F, up_F = gate_F.clamp(max=limit), up_F.clamp(-limit, limit)
    return F.silu(gate_F) * up_F


class Dense(nn.Module):
    """A feed-forward part without experts; its loads are zero and its balance even."""

    def __init__(self, config: CoreConfig) -> None:
        super().__init__()
        self.count, self.limit = config.experts.count, config.experts.limit
        self.dense_in = Linear(config.hidden, 2 * config.experts.dense_inner)  # [gate | up]
        self.dense_out = Linear(config.experts.dense_inner, config.hidden)

    def forward(self, x_BTW: Tensor, token_ids_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Output [B, T, W], zeros [E], and a one."""
        out_BTW = self.dense_out(gated(*self.dense_in(x_BTW).chunk(2, -1), self.limit))
        nothing_E = torch.zeros(self.count, dtype=wide(x_BTW).dtype, device=x_BTW.device)
        return out_BTW, nothing_E, nothing_E.new_ones(())


class Experts(nn.Module):
    """The feed-forward part of a block."""

    def __init__(self, config: CoreConfig, layer: int) -> None:
        super().__init__()
        part = config.experts
        self.limit = part.limit
        self.router = Router(config, layer)
        self.experts_in = nn.Parameter(torch.empty(part.count, 2 * part.inner, config.hidden))  # [gate | up]
        self.experts_out = nn.Parameter(torch.empty(part.count, config.hidden, part.inner))
        self.shared_in = Linear(config.hidden, 2 * part.shared_inner)
        self.shared_out = Linear(part.shared_inner, config.hidden)

    def forward(self, x_BTW: Tensor, token_ids_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Output [B, T, W], tokens sent to each expert [E], and the balance loss (1 when even), a scalar."""
        weights_BTE, chosen_BTE, shares_BTE = self.router(x_BTW, token_ids_BT)
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
        return F.linear(gated(gate, up, self.limit) * scale_BTF, last_WF)

    def _routed(self, x_BTW: Tensor, weights_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
        """Only chosen experts compute, each for its own tokens."""
        gate, up = self.shared_in(x_BTW).chunk(2, -1)
        out_NW = self.shared_out(gated(gate, up, self.limit)).flatten(0, 1)
        form = routed.form_of(out_NW, self.experts_in)
        if form != "loop":
            return (out_NW + self._sorted(form, x_BTW, weights_BTE, chosen_BTE)).view_as(x_BTW)
        if out_NW.shape[0] == 1 and not torch.is_grad_enabled():
            return self._one(x_BTW, weights_BTE, chosen_BTE, out_NW.view_as(x_BTW))
        x_NW, weights_NE, chosen_NE = x_BTW.flatten(0, 1), weights_BTE.flatten(0, 1), chosen_BTE.flatten(0, 1)
        for expert in chosen_NE.any(0).nonzero()[:, 0].tolist():
            rows = chosen_NE[:, expert].nonzero()[:, 0]
            gate, up = F.linear(x_NW[rows], self.experts_in[expert]).chunk(2, -1)
            part = F.linear(gated(gate, up, self.limit), self.experts_out[expert])
            out_NW = out_NW.index_add(0, rows, part * weights_NE[rows, expert, None].to(part.dtype))
        return out_NW.view_as(x_BTW)

    def _sorted(self, form: str, x_BTW: Tensor, weights_BTE: Tensor, chosen_BTE: Tensor) -> Tensor:
        """What the chosen experts give [N, W], sorted on the device."""
        places = routed.chosen_places(weights_BTE.flatten(0, 1), chosen_BTE.flatten(0, 1), self.router.chosen)
        given = (x_BTW.flatten(0, 1), self.experts_in, self.experts_out, *places)
        unit = partial(gated, limit=self.limit)
        return routed.few(*given, unit, self.limit) if form == "few" else routed.grouped(*given, unit)

    def _one(self, x_11W: Tensor, weights_11E: Tensor, chosen_11E: Tensor, out_11W: Tensor) -> Tensor:
        """The same for a single token, whose experts need no sorting."""
        weights = weights_11E.flatten().tolist()
        for expert in chosen_11E.flatten().nonzero()[:, 0].tolist():
            gate, up = linear(x_11W, self.experts_in[expert]).chunk(2, -1)
            part_11W = linear(gated(gate, up, self.limit), self.experts_out[expert])
            out_11W = torch.add(out_11W, part_11W, alpha=weights[expert])
        return out_11W
