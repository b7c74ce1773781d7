"""Parts of the core against transformers' DeepseekV4, the same weights in both."""

from __future__ import annotations

import dataclasses

import torch
from transformers.models.deepseek_v4 import configuration_deepseek_v4 as configuration
from transformers.models.deepseek_v4 import modeling_deepseek_v4 as v4

from dsv4.core import presets
from dsv4.core.attention import SharedAttention
from dsv4.core.config import AttentionConfig, ExpertsConfig, LanesConfig
from dsv4.core.frame import make_frame
from dsv4.core.hyper import HyperLanes, HyperOut
from dsv4.core.moe import Experts

OURS = dataclasses.replace(
    presets.micro(),
    reach=("sliding", "sliding", "sliding"),
    lanes=LanesConfig(count=4),
    attention=AttentionConfig(
        heads=4, entry=32, rotated=16, q_rank=48, groups=2, o_rank=16, window=8, top_k=64,
        index_heads=2, index_size=16, index_rotated=8,
    ),
    experts=ExpertsConfig(count=8, chosen=2, inner=32, shared_inner=32),
)  # fmt: skip


def theirs():  # noqa: ANN202
    config = configuration.DeepseekV4Config(
        vocab_size=256, hidden_size=64, moe_intermediate_size=32, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, head_dim=32, q_lora_rank=48, num_experts_per_tok=2, n_routed_experts=8,
        n_shared_experts=1, max_position_embeddings=512, layer_types=["sliding_attention"] * 3,
        mlp_layer_types=["moe"] * 3, partial_rotary_factor=0.5, sliding_window=8, o_groups=2, o_lora_rank=16,
        index_n_heads=4, index_head_dim=16, index_topk=3, hc_mult=4, rms_norm_eps=1e-6,
    )  # fmt: skip
    config._attn_implementation = "eager"
    return config


def randomise(module: torch.nn.Module, seed: int = 0) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)


def test_lanes_equal_theirs() -> None:
    peer, ours = v4.DeepseekV4HyperConnection(theirs()), HyperLanes(OURS, 0)
    randomise(peer)
    with torch.no_grad():
        for name in ("fn", "base", "scale"):
            getattr(ours, name).copy_(getattr(peer, name))
    x = torch.randn(2, 7, 4, 64, generator=torch.Generator().manual_seed(1))
    y = torch.randn(2, 7, 64, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        post, comb, collapsed = peer(x)
        expected = post.unsqueeze(-1) * y.unsqueeze(-2) + torch.matmul(comb.transpose(-1, -2), x)
        into, our_post, our_comb = ours.read(x)
        written = ours.write(x, y, our_post, our_comb)
    assert (into - collapsed).abs().max() < 1e-5
    assert (our_comb - comb).abs().max() < 1e-5
    assert (written - expected).abs().max() < 1e-5


def test_last_collapse_equals_theirs() -> None:
    peer, ours = v4.DeepseekV4HyperHead(theirs()), HyperOut(OURS)
    randomise(peer)
    with torch.no_grad():
        for name in ("fn", "base", "scale"):
            getattr(ours, name).copy_(getattr(peer, f"hc_{name}"))
        x = torch.randn(2, 7, 4, 64, generator=torch.Generator().manual_seed(1))
        assert (ours(x) - peer(x)).abs().max() < 1e-5


def test_attention_equals_theirs() -> None:
    """Shared entries, trailing interleaved rotation there and back, sink, window and grouped output."""
    config = theirs()
    peer, ours = v4.DeepseekV4Attention(config, 0).eval(), SharedAttention(OURS, 0)
    randomise(peer)
    names = {"query_down": "q_a_proj", "query_norm": "q_a_norm", "query_up": "q_b_proj", "entry": "kv_proj",
             "entry_norm": "kv_norm", "out": "o_b_proj"}  # fmt: skip
    with torch.no_grad():
        for mine, other in names.items():
            getattr(ours, mine).weight.copy_(getattr(peer, other).weight)
        ours.sink.copy_(peer.sinks)
        ours.out_groups.copy_(peer.o_a_proj.weight.view_as(ours.out_groups))
    x = torch.randn(2, 20, 64, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(20)[None].expand(2, -1)
    rotary = v4.DeepseekV4RotaryEmbedding(config)
    rotation = {kind: rotary(x, positions, layer_type=kind) for kind in ("main",)}
    back = torch.arange(20)[:, None] - torch.arange(20)[None]
    mask = torch.zeros(20, 20).masked_fill((back < 0) | (back >= 8), float("-inf"))[None, None]
    frame = make_frame(
        OURS, positions_BT=positions, batch=2, segments_BT=None, cache=None, sparse=False, index_loss=None
    )
    with torch.no_grad():
        expected = peer(x, {"main": rotation["main"]}, positions, mask)[0]
        assert (ours(x, frame)[0] - expected).abs().max() < 1e-5


def test_experts_equal_theirs() -> None:
    config = theirs()
    peer, ours = v4.DeepseekV4SparseMoeBlock(config, 0).eval(), Experts(OURS, 0)
    randomise(peer)
    with torch.no_grad():
        ours.router.weight.copy_(peer.gate.weight)
        peer.gate.e_score_correction_bias.copy_(torch.linspace(-0.2, 0.2, 8))
        ours.router.bias.copy_(peer.gate.e_score_correction_bias)
        ours.experts_in.copy_(peer.experts.gate_up_proj)
        ours.experts_out.copy_(peer.experts.down_proj)
        shared = peer.shared_experts
        ours.shared_in.weight.copy_(torch.cat((shared.gate_proj.weight, shared.up_proj.weight)))
        ours.shared_out.weight.copy_(shared.down_proj.weight)
        ours.router.scale = config.routed_scaling_factor
        x = torch.randn(2, 9, 64, generator=torch.Generator().manual_seed(1))
        assert (ours(x)[0] - peer(x)).abs().max() < 1e-5
