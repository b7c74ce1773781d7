"""One row of bfloat16 takes another way to the same product."""

from __future__ import annotations

import pytest
import torch

from dsv4.ops.linear import Linear, linear


@pytest.mark.parametrize("shape", [(1, 1, 48), (48,), (1, 48), (2, 1, 48), (1, 3, 48)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_are_those_of_the_library(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    x, weight = torch.randn(shape, generator=generator), torch.randn(64, 48, generator=generator)
    with torch.no_grad():
        found = linear(x.to(dtype), weight.to(dtype))
    exact = x.to(dtype).double() @ weight.to(dtype).double().T
    assert found.shape == exact.shape and found.dtype == dtype
    assert (found.double() - exact).abs().max() < (1e-5 if dtype == torch.float32 else 2**-7 * exact.abs().max())


def test_gradients_still_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = Linear(8, 4).bfloat16()
    assert layer.bias is None and list(layer.state_dict()) == ["weight"]
    layer(torch.ones(1, 8, dtype=torch.bfloat16)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.ones(4, 8, dtype=torch.bfloat16))
    monkeypatch.setattr(torch, "mv", None)
    layer(torch.ones(1, 8, dtype=torch.bfloat16))  # with gradients on, the library's own product
    with torch.no_grad(), pytest.raises(TypeError):
        layer(torch.ones(1, 8, dtype=torch.bfloat16))
