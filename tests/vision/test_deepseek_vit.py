"""The second eyes: released names find their places, tokens are counted exactly, a prompt takes them as any others."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dsv4.model_input import ModelInput
from tests import ocr_layout
from vision import DeepSeekViT, DeepSeekViTConfig
from vision.deepseek_vit import MOST_TOKENS, TOKEN, token_grid

SMALL = DeepSeekViTConfig(width=128, layers=2, heads=2, inner=176, out_dim=48)


def test_the_published_sizes():
    with torch.device("meta"):
        encoder = DeepSeekViT(DeepSeekViTConfig())
    trunk = sum(p.numel() for name, p in encoder.trunk.named_parameters() if not name.startswith("aligner"))
    assert trunk / 1e6 == pytest.approx(411.8, abs=0.1)
    assert encoder.num_parameters() / 1e6 == pytest.approx(411.8 + 73.4, abs=0.2)


def released(config: DeepSeekViTConfig) -> dict[str, torch.Tensor]:
    """Random tensors under the names of DeepSeek-V4.1's checkpoint, with some of its language part beside them."""
    width, inner, out = config.width, config.inner, config.out_dim
    shapes = {"vision.patch_embed.proj.weight": (width, 3 * 14 * 14), "vision.patch_embed.proj.bias": (width,)}
    for layer in range(config.layers):
        base = f"vision.blocks.{layer}"
        shapes |= {f"{base}.norm1.weight": (width,), f"{base}.norm2.weight": (width,)}
        shapes |= {f"{base}.attn.wqkv.weight": (3 * width, width), f"{base}.attn.wqkv.bias": (3 * width,)}
        shapes |= {f"{base}.attn.wo.weight": (width, width), f"{base}.attn.wo.bias": (width,)}
        shapes |= {f"{base}.mlp.w1.weight": (2 * inner, width), f"{base}.mlp.w2.weight": (width, inner)}
    shapes |= {"vision.norm.weight": (width,)}
    shapes |= {"aligner.w1.weight": (out, 9 * width), "aligner.w1.bias": (out,)}
    shapes |= {"aligner.w2.weight": (out, out), "aligner.w2.bias": (out,)}
    shapes |= {"norm.weight": (96,), "head.weight": (10, 96), "embed.weight": (10, 96)}
    return ocr_layout.random_tensors(shapes)


def plain(tensors: dict[str, torch.Tensor], pixels_13HW: torch.Tensor, config: DeepSeekViTConfig) -> torch.Tensor:
    """The network written out from its description: [H*W, D] for one picture."""
    take = tensors.__getitem__
    norm = lambda x, name: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * take(f"{name}.weight")  # noqa: E731
    patches = F.unfold(pixels_13HW, 14, stride=14)[0].T
    rows, columns = pixels_13HW.shape[2] // 14, pixels_13HW.shape[3] // 14
    x = patches @ take("vision.patch_embed.proj.weight").T + take("vision.patch_embed.proj.bias")
    head = config.width // config.heads
    bands = 1e4 ** -(torch.arange(0, head // 4) / (head // 4))
    row, column = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    angles = torch.cat([row.reshape(-1, 1) * bands, column.reshape(-1, 1) * bands], -1).repeat(1, 2)

    def turn(q_ANE):
        one, two = q_ANE.chunk(2, -1)
        return q_ANE * angles.cos() + torch.cat([-two, one], -1) * angles.sin()

    for layer in range(config.layers):
        base = f"vision.blocks.{layer}"
        qkv = norm(x, f"{base}.norm1") @ take(f"{base}.attn.wqkv.weight").T + take(f"{base}.attn.wqkv.bias")
        q, k, v = qkv.view(-1, 3, config.heads, head).permute(1, 2, 0, 3)
        seen = torch.softmax(turn(q) @ turn(k).transpose(-1, -2) / head**0.5, -1) @ v
        x = x + seen.transpose(0, 1).flatten(1) @ take(f"{base}.attn.wo.weight").T + take(f"{base}.attn.wo.bias")
        gate, up = (norm(x, f"{base}.norm2") @ take(f"{base}.mlp.w1.weight").T).chunk(2, -1)
        x = x + (F.silu(gate) * up) @ take(f"{base}.mlp.w2.weight").T
    grid = norm(x, "vision.norm").view(rows, columns, -1).permute(2, 0, 1)[None]
    joined = F.unfold(grid, 3, stride=3)[0].T
    inner = F.gelu(joined @ take("aligner.w1.weight").T + take("aligner.w1.bias"))
    return inner @ take("aligner.w2.weight").T + take("aligner.w2.bias")


@pytest.mark.parametrize("size", [(42, 42), (84, 126), (210, 84)])
def test_a_released_file_gives_what_its_description_gives(tmp_path, size):
    tensors = released(SMALL)
    folder = ocr_layout.write(tmp_path, tensors, shards=2)
    encoder = DeepSeekViT.from_pretrained(folder)
    assert encoder.config == SMALL and not encoder.training
    pixels = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.inference_mode():
        ours, wanted = encoder.sequence(pixels)[0], plain(tensors, pixels, SMALL)
    assert ours.shape == (size[0] * size[1] // TOKEN**2, 48)
    assert (ours - wanted).norm() / wanted.norm() < 3e-6
    assert torch.equal(encoder.grid(pixels)[0].flatten(0, 1), ours)


def test_what_does_not_fit_is_named(tmp_path):
    tensors = released(SMALL)
    cut = {name: value for name, value in tensors.items() if name != "vision.blocks.1.attn.wo.bias"}
    with pytest.raises(ValueError, match=r"'blocks.1.attn.proj.bias' is missing"):
        DeepSeekViT.from_pretrained(ocr_layout.write(tmp_path / "cut", cut))
    with pytest.raises(ValueError, match="not the eyes of DeepSeek-V4.1"):
        DeepSeekViT.from_pretrained(ocr_layout.write(tmp_path / "other", {"head.weight": torch.zeros(2)}))
    with pytest.raises(ValueError, match="in steps of 42"):
        DeepSeekViT(SMALL).sequence(torch.zeros(1, 3, 40, 42))
    with pytest.raises(ValueError, match="multiple of four"):
        DeepSeekViTConfig(width=100, heads=3)


@given(width=st.integers(1, 30_000), height=st.integers(1, 30_000))
@settings(max_examples=300, deadline=None)
def test_grids_keep_to_the_limit_and_near_the_shape(width, height):
    columns, rows = token_grid(width, height)
    assert 1 <= columns * rows <= MOST_TOKENS
    if min(columns, rows) >= 8:
        assert columns / rows == pytest.approx(width / height, rel=0.15)
    if width * height >= 1400**2 and max(width, height) <= 20 * min(width, height):
        assert columns * rows > 0.85 * MOST_TOKENS


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (60, 300), (640, 480)])
def test_the_count_is_what_comes_and_a_prompt_takes_it(size):
    torch.manual_seed(0)
    encoder = DeepSeekViT(SMALL).eval()
    views = encoder.prepare(Image.new("RGB", size))
    with torch.inference_mode():
        assert encoder(views).shape == (views.tokens, 48)
    ids = torch.zeros(1, views.tokens + 2, dtype=torch.int64)
    assert ModelInput(token_ids_BT=ids, views=(views,), image_spans=((1, 1 + views.tokens),)).length == ids.shape[1]
