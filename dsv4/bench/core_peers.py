"""Peers of `dsv4 bench core`: transformers' DeepSeek models of nano's shape, and caches filled with noise.

Shape letters: as in the models; nothing here is timed.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dsv4.core.model import LanguageCore

LATENT = dict(
    vocab_size=32_000, hidden_size=512, intermediate_size=1024, moe_intermediate_size=256, num_hidden_layers=8,
    num_attention_heads=8, num_key_value_heads=8, n_shared_experts=1, n_routed_experts=16, num_experts_per_tok=4,
    kv_lora_rank=128, q_lora_rank=256, qk_rope_head_dim=32, qk_nope_head_dim=64, v_head_dim=64,
    first_k_dense_replace=1, n_group=1, topk_group=1, max_position_embeddings=2**20,
)  # fmt: skip
INDEX = dict(index_topk=2048, index_head_dim=64, index_n_heads=8)
V4 = dict(
    vocab_size=32_000, hidden_size=512, moe_intermediate_size=256, num_hidden_layers=8, num_attention_heads=8,
    num_key_value_heads=1, head_dim=128, q_lora_rank=256, n_routed_experts=16, n_shared_experts=1,
    num_experts_per_tok=4, sliding_window=128, o_groups=2, o_lora_rank=128, hc_mult=4, max_position_embeddings=2**20,
    partial_rotary_factor=0.25, index_topk=512, index_head_dim=64, index_n_heads=8,
    layer_types=["sliding_attention"] * 2 + ["compressed_sparse_attention", "heavily_compressed_attention"] * 3,
    mlp_layer_types=["hash_moe"] + ["moe"] * 7,
)  # fmt: skip
SMALL = dict(hidden_size=64, vocab_size=256, num_hidden_layers=4, moe_intermediate_size=32, n_routed_experts=8)
SETTINGS = tuple(itertools.product(("eager", "sdpa"), ("eager", "grouped_mm", "batched_mm")))


def pair(kind: str, *, small: bool = False) -> tuple[Any, LanguageCore, float]:
    """A peer of random weights, our core with the same, both bfloat16, and how far their float32 logits were apart.

    The difference is over the largest logit, for 40 tokens, which is fewer than any selection leaves out.
    """
    import torch

    from dsv4.core.model import LanguageCore

    torch.manual_seed(0)
    peer = _peer(kind, small).eval().requires_grad_(False)
    for name, buffer in peer.named_buffers():
        if name.endswith("tid2eid"):
            buffer.copy_(torch.rand(buffer.shape[0], 8).argsort(-1)[:, : buffer.shape[1]])
    with tempfile.TemporaryDirectory() as folder:
        with contextlib.redirect_stderr(io.StringIO()):  # a progress bar
            peer.save_pretrained(folder)
        core = LanguageCore.from_pretrained(Path(folder))
    ids_BT = torch.randint(0, 256, (1, 40))
    with torch.inference_mode():
        expected = peer(ids_BT).logits
        apart = ((core(ids_BT).logits_BTV - expected).abs().max() / expected.abs().max()).item()
    wide = {name: tensor.clone() for name, tensor in core.named_parameters() if "hyper" in name or "sink" in name}
    core = core.bfloat16()
    for name, parameter in core.named_parameters():
        if name in wide:
            parameter.data = wide[name]
    return peer.bfloat16(), core, apart


def _peer(kind: str, small: bool) -> Any:
    import transformers as hub

    change: dict[str, Any] = SMALL if small else {}
    if kind == "V4":
        change = change | ({"layer_types": V4["layer_types"][1:5], "mlp_layer_types": ["hash_moe"] + ["moe"] * 3}
                           if small else {})  # fmt: skip
        model = hub.DeepseekV4ForCausalLM(hub.DeepseekV4Config(**{**V4, **change}))
        model.config._attn_implementation = "eager"
        return model
    if kind == "V3.2":
        config = hub.DeepseekV32Config(**{**LATENT, **INDEX, **change}, attn_implementation="eager")
        return hub.DeepseekV32ForCausalLM(config)
    return hub.DeepseekV3ForCausalLM(hub.DeepseekV3Config(**{**LATENT, **change}, attn_implementation="eager"))


def best_setting(peer: Any, kind: str, time_once: Callable[[], float], *, many: bool = False) -> str:
    """Leave the peer in the quickest of its own settings for attention and experts, and say which.

    For `many` tokens `batched_mm`, which copies the weights of every token's experts, is not tried: it takes minutes.
    """
    found: dict[tuple[str, str], float] = {}
    for attention, experts in SETTINGS:
        if kind == "V4" and attention != "eager":  # the only one that it has
            continue
        if many and experts == "batched_mm":
            continue
        _set(peer, attention, experts)
        try:
            found[attention, experts] = time_once()
        except (NotImplementedError, RuntimeError, ValueError):
            continue  # transformers has not every setting for every model; the one that is kept is printed
    best = min(found, key=lambda setting: found[setting])
    _set(peer, *best)
    return f"{best[0]}, {best[1]}"


def _set(peer: Any, attention: str, experts: str) -> None:
    peer.config._attn_implementation = attention
    peer.config._experts_implementation = experts


def filled_peer(peer: Any, kind: str, length: int) -> Any:
    """The peer's cache as if `length` tokens had been read: noise, in its own layout. A multiple of 128 for V4."""
    import torch
    from transformers import DynamicCache

    config, dtype = peer.config, torch.bfloat16
    cache = DynamicCache(config=config)
    for number, layer in enumerate(cache.layers):
        if kind == "V4":
            _fill_v4(layer, config, length)
            continue
        key = torch.randn(1, 1, length, config.kv_lora_rank, dtype=dtype)
        cache.update(key, torch.randn(1, 1, length, config.qk_rope_head_dim, dtype=dtype), number)
        if kind == "V3.2":
            cache.update_indexer(torch.randn(1, length, config.index_head_dim, dtype=dtype), number)
    return cache


def _fill_v4(layer: Any, config: Any, length: int) -> None:
    import torch

    dtype = torch.bfloat16
    window = torch.randn(1, 1, min(length, config.sliding_window), config.head_dim, dtype=dtype)
    layer.update(window, window)
    layer.cumulative_length = length
    for name in getattr(layer, "compressed_kv", {}):
        width, rate = (config.index_head_dim if name == "indexer" else config.head_dim), layer.compress_rate
        layer.compressed_kv[name] = torch.randn(1, length // rate, width, dtype=dtype)
        layer.entry_count[name] = length // rate
        if hasattr(layer, "overlap_kv"):
            layer.overlap_kv[name] = torch.randn(1, rate, width, dtype=dtype)
            layer.overlap_gate[name] = torch.randn(1, rate, width, dtype=dtype)
