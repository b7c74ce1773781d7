"""Pooling of windows against loops over windows, slots and numbers; outputs and gradients."""

from __future__ import annotations

import math

import torch

from dsv4.ops.pool import pool_overlapping, pool_windows


def made(size: int, tokens: int, ratio: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = (2, tokens, size), (2, tokens, size), (ratio, size)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True) for shape in shapes)


def mean(values: list[torch.Tensor], gates: list[torch.Tensor]) -> torch.Tensor:
    powers = [math.exp(1) ** gate for gate in gates]
    return sum(value * power for value, power in zip(values, powers, strict=True)) / sum(powers)


def test_windows_equal_loops_outputs_and_gradients() -> None:
    values, gates, place = made(3, 12, 4)
    found = pool_windows(values, gates, place)
    expected = torch.stack(
        [
            mean([values[:, 4 * w + i] for i in range(4)], [gates[:, 4 * w + i] + place[i] for i in range(4)])
            for w in range(3)
        ],
        1,
    )
    same(found, expected, (values, gates, place))


def test_overlapping_windows_equal_loops_outputs_and_gradients() -> None:
    values, gates, place = made(6, 12, 4)

    def slots(w: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        read = [(4 * (w - 1) + i, i, slice(0, 3)) for i in range(4)] if w else []
        read += [(4 * w + i, i, slice(3, 6)) for i in range(4)]
        return [values[:, t, part] for t, _, part in read], [gates[:, t, part] + place[i, part] for t, i, part in read]

    expected = torch.stack([mean(*slots(w)) for w in range(3)], 1)
    same(pool_overlapping(values, gates, place), expected, (values, gates, place))
    led = pool_overlapping(values[:, 4:], gates[:, 4:], place, led=True)
    assert (led - expected[:, 2:]).abs().max() < 1e-12


def test_equal_gates_give_the_mean() -> None:
    values, _, _ = made(6, 8, 4)
    found = pool_windows(values, torch.full_like(values, 3.0), torch.zeros(4, 6))
    assert (found - values.unflatten(1, (2, 4)).mean(2)).abs().max() < 1e-12


def same(found: torch.Tensor, expected: torch.Tensor, given: tuple[torch.Tensor, ...]) -> None:
    assert found.shape == expected.shape and (found - expected).abs().max() < 1e-12
    weight = torch.randn(found.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    one, other = (torch.autograd.grad((result * weight).sum(), given) for result in (found, expected))
    assert all((a - b).abs().max() < 1e-12 for a, b in zip(one, other, strict=True))
