"""Attention in one call, in pieces and as timm writes it: the same values, the same gradients, a bounded memory."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from timm.models.vision_transformer_sam import Block

from vision import DeepEncoder, DeepEncoderConfig, sam


def blocks(window: int) -> tuple[Block, Block]:
    """timm's block, and the same one with our attention in it."""
    torch.manual_seed(0)
    plain = Block(32, 2, use_rel_pos=True, window_size=window, input_size=(16, 16))
    for name, parameter in plain.named_parameters():
        if "rel_pos" in name or "bias" in name:
            torch.nn.init.normal_(parameter, std=0.5)
    ours = Block(32, 2, use_rel_pos=True, window_size=window, input_size=(16, 16))
    ours.load_state_dict(plain.state_dict())
    ours.attn = sam.FoldedAttention(ours.attn, window=window)
    ours.window_size = 0
    return plain, ours


@pytest.mark.parametrize("window", [0, 4, 7])
@pytest.mark.parametrize("size", [(16, 16), (12, 20), (9, 5)])
def test_values_and_gradients_are_timms(window, size):
    plain, ours = blocks(window)
    one = torch.randn(2, *size, 32, generator=torch.Generator().manual_seed(1), requires_grad=True)
    two = one.detach().clone().requires_grad_()
    wanted, got = plain(one), ours(two)
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=2e-5)
    for out in (wanted, got):
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    torch.testing.assert_close(two.grad, one.grad, rtol=1e-3, atol=1e-4)
    theirs = dict(plain.named_parameters())
    for name, parameter in ours.named_parameters():
        torch.testing.assert_close(parameter.grad, theirs[name].grad, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("window", [0, 4])
def test_pieces_give_what_the_whole_gives(window, monkeypatch):
    _, ours = blocks(window)
    x_BHWC = torch.randn(2, 16, 16, 32, generator=torch.Generator().manual_seed(1))
    whole = ours(x_BHWC).detach()
    monkeypatch.setattr(sam, "QUERIES", 24)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x_BHWC), whole, rtol=1e-5, atol=1e-6)


def test_the_encoder_is_compiled_whole():
    torch.manual_seed(0)
    encoder = DeepEncoder(DeepEncoderConfig.micro())
    explained = torch._dynamo.explain(encoder.sequence)(torch.rand(1, 3, 128, 128))
    assert explained.graph_break_count == 0


MEASURE = """
import torch
torch.set_num_threads(1)
from timm.models.vision_transformer_sam import Attention
from vision.sam import FoldedAttention

attention = FoldedAttention(Attention(128, 2, use_rel_pos=True, input_size=(64, 64)))
x = torch.randn(1, 64, 64, 128)

def read(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

with torch.inference_mode():
    attention(x[:, :8, :8])
    before = read("VmRSS")
    attention(x)
print((read("VmHWM") - before) // 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_no_matrix_of_all_pairs_is_made(python_environment):
    """Such a matrix would take 2 heads x 4096 x 4096 x 4 bytes, 128 MiB, and timm makes three."""
    run = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, env=python_environment)
    assert run.returncode == 0, run.stderr
    assert int(run.stdout) < 60
