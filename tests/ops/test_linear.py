"""One row of bfloat16 takes another way to the same product."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops import linear as module
from dsv4.ops import native
from dsv4.ops.linear import Linear, linear


@pytest.mark.parametrize("shape", [(4, 16), (7, 49), (64, 8), (130, 272)])
def test_compiled_products_of_floats_take_any_shape(shape: tuple[int, int]) -> None:
    lib = native.library()
    assert lib is not None, "a compiler is there, so the loops must be"
    x_MK, rows_NK = torch.randn(2, shape[1]), torch.randn(shape)
    found_MN = native.times(x_MK, rows_NK, None, bits=32, rows=shape[0], group=shape[1], lib=lib)
    assert torch.allclose(found_MN, (x_MK.double() @ rows_NK.double().T).float(), atol=1e-5 * shape[1])


WAYS = ("compiled", "bfloat16", "plain")


def by(way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way != "compiled":
        monkeypatch.setattr(native, "wide_library", lambda: None)
        monkeypatch.setattr(module, "_has_bfloat16", lambda: way == "bfloat16")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shape", [(1, 1, 48), (48,), (1, 48), (2, 1, 48), (1, 3, 48), (1, 46), (1, 544)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rows", [67, 2048])
def test_products_are_those_of_the_library(way, rows, shape: tuple[int, ...], dtype: torch.dtype, monkeypatch) -> None:
    by(way, monkeypatch)
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=generator), torch.randn(rows, shape[-1], generator=generator)
    with torch.no_grad():
        found = linear(x.to(dtype), weight.to(dtype))
    exact = x.to(dtype).double() @ weight.to(dtype).double().T
    assert found.shape == exact.shape and found.dtype == dtype
    assert (found.double() - exact).abs().max() < (1e-4 if dtype == torch.float32 else 2**-7 * exact.abs().max())


def test_gradients_still_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Linear(8, 4).bfloat16()
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    layer(torch.ones(1, 8, dtype=torch.bfloat16)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones(4, 8, dtype=torch.bfloat16))
    by("plain", monkeypatch)
    monkeypatch.setattr(torch, "mv", None)
    layer(torch.ones(1, 8, dtype=torch.bfloat16))  # with gradients on, the library's own product
    with torch.no_grad(), pytest.raises(TypeError):
        layer(torch.ones(1, 8, dtype=torch.bfloat16))
