"""Optimisers of the curriculum: Muon for matrices, Adam for memory rows, AdamW for the rest, and one schedule.

Shape letters: E stacked experts, R rows, C columns.
Source: Muon as in K. Jordan et al. 2024 (Nesterov momentum, five Newton-Schulz steps, scale sqrt(max(1, R / C)));
memory rows at a rate of their own without decay as in Engram (arXiv 2601.07372, training details).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalize(matrix_ERC: Tensor, *, steps: int = 5) -> Tensor:
    """Push the singular values of each matrix of a stack towards one, in bfloat16.

    Limit case: a matrix with orthonormal rows keeps its directions. Shape in equals shape out.
    """
    a, b, c = _NEWTON_SCHULZ
    x = matrix_ERC.bfloat16()
    tall = x.shape[-2] > x.shape[-1]
    if tall:
        x = x.mT
    x = x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * (gram @ gram)) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for matrices and for stacks of matrices (experts), batched over parameters of one shape.

    torch.optim.Muon takes single matrices only; this one agrees with it on those (a test) and takes stacks too. The
    rate may be a tensor, so that a captured step follows it.
    """

    def __init__(self, params: Iterable[Tensor], *, lr: float | Tensor = 0.01, momentum: float = 0.95) -> None:
        super().__init__(list(params), {"lr": lr, "momentum": momentum, "capturable": True})
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.ndim not in (2, 3):
                    raise ValueError(f"Muon takes matrices or stacks of them, got shape {tuple(parameter.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    by_shape[parameter.shape].append(parameter)
            for shape, parameters in by_shape.items():
                self._step_shape(shape, parameters, group["lr"], group["momentum"])

    def _step_shape(self, shape: torch.Size, parameters: list[Tensor], lr: float | Tensor, momentum: float) -> None:
        buffers = []
        for parameter in parameters:
            state = self.state[parameter]
            if "momentum" not in state:
                state["momentum"] = torch.zeros_like(parameter)
            buffers.append(state["momentum"])
        gradients = [parameter.grad for parameter in parameters]
        torch._foreach_lerp_(buffers, gradients, 1 - momentum)
        look_ahead = torch._foreach_lerp(gradients, buffers, momentum)
        rows, columns = shape[-2:]
        stack = torch.stack(list(look_ahead)).reshape(-1, rows, columns)
        update = orthogonalize(stack).reshape(len(parameters), *shape).to(parameters[0].dtype)
        update = update * (lr * math.sqrt(max(1.0, rows / columns)))
        torch._foreach_sub_(parameters, list(update.unbind(0)))


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Base learning rates; the schedule multiplies all of them by one factor."""

    matrices: float = 0.01
    rest: float = 2e-3
    rows: float = 8e-3


_NOT_MATRICES = ("embed", "table", "hyper", "hc_", ".fn", "router", "gate.", "conv", "pos", "scale_shift", "queries")


def split_parameters(modules: Iterable[nn.Module]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Sort what wants a gradient into (matrices, memory rows, rest), each parameter once.

    Memory rows are Engram tables (`table` in the name). Embeddings, routers, lane mixing, convolutions and position
    tables are not treated as matrices.
    """
    matrices: list[Tensor] = []
    rows: list[Tensor] = []
    rest: list[Tensor] = []
    seen: set[int] = set()
    for module in modules:
        for name, parameter in module.named_parameters():
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            if "engram" in name and "table" in name:
                rows.append(parameter)
            elif parameter.ndim in (2, 3) and min(parameter.shape[-2:]) > 8 and not _is_plain(name):
                matrices.append(parameter)
            else:
                rest.append(parameter)
    return matrices, rows, rest


def _is_plain(name: str) -> bool:
    return any(part in name for part in _NOT_MATRICES)


def make_optimizers(modules: Iterable[nn.Module], rates: Rates, *, share: float = 1.0) -> list[torch.optim.Optimizer]:
    """One optimiser a class of parameter; each group remembers its base rate, `share` of the table's, as `base_lr`.

    On CUDA rates are tensors and every optimiser can be captured.
    """
    matrices, rows, rest = split_parameters(modules)
    optimizers: list[torch.optim.Optimizer] = []

    def rate(value: float, parameters: list[Tensor]) -> float | Tensor:
        return torch.tensor(value, device=parameters[0].device) if parameters[0].is_cuda else value

    def adam(parameters: list[Tensor]) -> dict[str, Any]:
        return {"betas": (0.9, 0.95), "fused": parameters[0].is_cuda, "capturable": parameters[0].is_cuda}

    if matrices:
        optimizers.append(Muon(matrices, lr=rate(rates.matrices, matrices)))
    if rest:
        optimizers.append(torch.optim.AdamW(rest, lr=rate(rates.rest, rest), weight_decay=0.0, **adam(rest)))
    if rows:
        optimizers.append(torch.optim.Adam(rows, lr=rate(rates.rows, rows), **adam(rows)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["base_lr"] = float(group["lr"]) * share
    return optimizers


def schedule(step: int, total: int, *, warmup: int, hold: float) -> float:
    """Rate factor of a step: linear warm-up, constant until `hold` of the run, then linear to 1 % of the rate."""
    rise = min(1.0, (step + 1) / max(1, warmup))
    done = step / max(1, total)
    fall = 1.0 if done < hold else max(0.01, (1.0 - done) / (1.0 - hold))
    return rise * fall


def set_rates(optimizers: Iterable[torch.optim.Optimizer], factor: float) -> None:
    """Set every group's rate to `factor` times its base rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(group["base_lr"] * factor)
            else:
                group["lr"] = group["base_lr"] * factor


class Average:
    """Exponential moving average of a module's parameters, warmed up so that early steps are forgotten."""

    def __init__(self, module: nn.Module, *, decay: float = 0.9995) -> None:
        self.decay = decay
        self.steps = 0
        self.live = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.kept = [parameter.detach().clone() for parameter in self.live]

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the live parameters."""
        self.steps += 1
        decay = min(self.decay, 1 - 3 / (self.steps + 3))
        torch._foreach_lerp_(self.kept, self.live, 1 - decay)

    @torch.no_grad()
    def swap(self) -> None:
        """Exchange live and averaged values; calling it twice restores both."""
        for live, kept in zip(self.live, self.kept, strict=True):
            held = live.detach().clone()
            live.copy_(kept)
            kept.copy_(held)
