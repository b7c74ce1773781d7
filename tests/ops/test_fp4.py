"""Four-bit floats against the definition, number by number."""

from __future__ import annotations

import math

import pytest
import torch

from dsv4.ops.fp4 import LEVELS, FourBitRows, four_bits, on_four_bits


def by_hand(row: list[float], scale: float) -> list[float]:
    """Each number at the nearest level times the scale; of two equally near ones that with an even code."""
    found = []
    for number in row:
        size = min(abs(number) / scale, 6.0)
        code = min(range(8), key=lambda c: (abs(LEVELS[c] - size), c % 2))
        found.append(math.copysign(LEVELS[code] * scale, number))
    return found


@pytest.mark.parametrize(("tile", "scale"), [(16, "e4m3"), (32, "e8m0")])
def test_rounding_is_the_definition(tile: int, scale: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 2 * tile, generator=generator) * torch.logspace(-6, 3, 40)[:, None]
    x[0], x[1, :8] = 0.0, torch.tensor([6.0, 0.25, 0.75, 1.25, -1.75, 2.5, -3.5, 5.0])
    x[1, 8:tile] = 0.0
    found = on_four_bits(x, tile, scale)
    for number, row in enumerate(x):
        for part in (slice(0, tile), slice(tile, 2 * tile)):
            sixth = max(row[part].abs().max().item(), 6 * 2.0 ** (-9 if scale == "e4m3" else -126)) / 6
            if scale == "e4m3":
                shared = torch.tensor(sixth).to(torch.float8_e4m3fn).float().item()
            else:
                shared = 2.0 ** math.ceil(math.log2(sixth))
            expected = torch.tensor(by_hand(row[part].tolist(), shared))
            assert torch.equal(found[number, part], expected), (number, part)
    assert found[1, :8].tolist() == [6.0, 0.0, 1.0, 1.0, -2.0, 2.0, -4.0, 4.0]


@pytest.mark.parametrize(("form", "size"), [
    (FourBitRows(size=512, tile=16, scale="e4m3"), 288), (FourBitRows(size=128, tile=32, scale="e8m0"), 68),
    (FourBitRows(size=21, tile=16, scale="e4m3"), 13),
])  # fmt: skip
def test_rows_hold_what_rounding_gives(form: FourBitRows, size: int) -> None:
    rows = torch.randn(2, 5, form.size, generator=torch.Generator().manual_seed(0)) * 0.01
    packed = form.pack(rows)
    assert packed.shape == (2, 5, size) and packed.dtype == torch.uint8
    assert torch.equal(form.unpack(packed, torch.float32), on_four_bits(rows, form.tile, form.scale))
    if form.size == 128:
        codes, _ = four_bits(rows, form.tile, form.scale)
        assert packed[0, 0, 0] == codes[0, 0, 0, 0] + 16 * codes[0, 0, 0, 1], "the even place lies in the low half"


def test_gradients_pass_and_scales_are_named() -> None:
    x = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(3, 40, dtype=torch.float64)
    (on_four_bits(x, 16, "e4m3") * weights).sum().backward()
    assert torch.equal(x.grad, weights)
    with pytest.raises(ValueError, match="unknown scale 'e5m2', allowed: e4m3, e8m0"):
        on_four_bits(x, 16, "e5m2")
