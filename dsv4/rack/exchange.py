"""Experts spread over processes: each holds some of all layers' experts, and tokens travel to them and back.

Shape letters: B batch, T tokens, N (token, expert) pairs, W hidden, E experts, R processes, K chosen.
Source: expert parallelism by two uneven all-to-all exchanges (GShard, arXiv 2006.16668); gradients flow through both.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.nn import functional as F

from dsv4.core.moe import Experts, gated


class SpreadExperts(nn.Module):
    """In the place of `Experts`: this process keeps experts `first` to `first + share`; router and shared one whole."""

    def __init__(self, experts: Experts, mesh: DeviceMesh) -> None:
        super().__init__()
        self.group, ranks = mesh.get_group(), mesh.size()
        count = experts.experts_in.shape[0]
        if count % ranks:
            raise ValueError(f"{count} experts do not divide among {ranks} processes")
        self.share, self.limit, self.router = count // ranks, experts.limit, experts.router
        self.shared_in, self.shared_out = experts.shared_in, experts.shared_out
        # Distributed tensors, so that a checkpoint holds all experts and any number of processes can read it.
        self.experts_in = nn.Parameter(distribute_tensor(experts.experts_in.detach(), mesh, [Shard(0)]))
        self.experts_out = nn.Parameter(distribute_tensor(experts.experts_out.detach(), mesh, [Shard(0)]))

    def forward(self, x_BTW: Tensor, token_ids_BT: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """What `Experts` gives: output [B, T, W], loads [E] of this process's tokens, and the balance loss."""
        weights_BTE, chosen_BTE, shares_BTE = self.router(x_BTW, token_ids_BT)
        count = weights_BTE.shape[-1]
        gate, up = self.shared_in(x_BTW).chunk(2, -1)
        out_SW = self.shared_out(gated(gate, up, self.limit)).flatten(0, 1)
        expert_N, token_N = chosen_BTE.flatten(0, 1).T.nonzero(as_tuple=True)  # sorted by expert, so by process
        sent_E = torch.bincount(expert_N, minlength=count)
        got_E = torch.empty_like(sent_E)
        dist.all_to_all_single(got_E, sent_E, group=self.group)
        ranks = self.group.size()
        sends, gets = sent_E.view(ranks, -1).sum(1).tolist(), got_E.view(ranks, -1).sum(1).tolist()
        there_NW = all_to_all_single_autograd(x_BTW.flatten(0, 1)[token_N], gets, sends, self.group)
        made_NW = self._own(_settled(there_NW), got_E.view(ranks, -1))
        back_NW = _settled(all_to_all_single_autograd(made_NW, sends, gets, self.group))
        weight_N = weights_BTE.flatten(0, 1)[token_N, expert_N]
        out_SW = out_SW.index_add(0, token_N, back_NW * weight_N[:, None].to(back_NW.dtype))
        load_BE = chosen_BTE.to(shares_BTE.dtype).sum(1)
        often_BE = load_BE * (count / (x_BTW.shape[1] * self.router.chosen))
        return out_SW.view_as(x_BTW), load_BE.sum(0), (often_BE * shares_BTE.mean(1)).sum(-1).mean()

    def _own(self, x_NW: Tensor, got_RE: Tensor) -> Tensor:
        """The own experts over the tokens that came, in the order that they came in: by process, then by expert."""
        expert_N = torch.arange(self.share, device=x_NW.device).repeat(len(got_RE)).repeat_interleave(got_RE.flatten())
        in_EFW, out_EWF = self.experts_in.to_local(), self.experts_out.to_local()
        # Zero times the weights: a process that no token came to has gradients of zero, and not none.
        out_NW = x_NW * 0 + 0 * (in_EFW.sum() + out_EWF.sum())
        for expert in range(self.share):
            rows = (expert_N == expert).nonzero()[:, 0]
            gate, up = F.linear(x_NW[rows], in_EFW[expert]).chunk(2, -1)
            part = F.linear(gated(gate, up, self.limit), out_EWF[expert])
            out_NW = out_NW.index_add(0, rows, part)
        return out_NW


def _settled(tensor: Tensor) -> Tensor:
    """The numbers, waited for: what functional collectives give is still on its way."""
    from torch.distributed._functional_collectives import wait_tensor

    return wait_tensor(tensor)
