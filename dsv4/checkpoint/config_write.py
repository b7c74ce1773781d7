"""CoreConfig as the `config.json` of the family it belongs to, in the form that transformers reads."""

from __future__ import annotations

from typing import Any

from dsv4.core.config import AttentionConfig, CoreConfig, HeadsConfig, LatentConfig, YarnConfig
from dsv4.ops.hashing import prime_sizes

ARCHITECTURES = {"deepseek_v2": "DeepseekV2ForCausalLM", "deepseek_v3": "DeepseekV3ForCausalLM",
                 "deepseek_v32": "DeepseekV32ForCausalLM", "deepseek_v4": "DeepseekV4ForCausalLM",
                 "deepseek_v41": "DeepseekV41ForCausalLM"}  # fmt: skip
FAMILIES = (*ARCHITECTURES, "dsv4")


def family(config: CoreConfig) -> str:
    """The released family whose models a configuration describes, or `dsv4` when there is none."""
    part, experts, ours = config.attention, config.experts, "dsv4"
    if _is_v41(config):
        return "deepseek_v41"
    if config.lanes.passes == 1 or getattr(part, "grid", 0) or not getattr(part, "head_norm", True):
        return ours
    if config.embed_norm or config.engram is not None or config.lanes.mixing != "mhc":
        return ours
    if isinstance(part, AttentionConfig):
        v4 = (
            not set(config.reach) & {"full", "sparse", "shared_compressed"}
            and config.lanes.count > 1
            and experts.limit is not None
        )
        v4 = v4 and experts.score == "sqrtsoftplus" and not experts.dense and part.index_rotated == part.rotated
        return "deepseek_v4" if v4 and experts.shared_inner % experts.inner == 0 and not config.draft else ours
    dense = experts.dense == tuple(range(len(experts.dense)))
    if config.lanes.count > 1 or experts.hashed or experts.limit is not None or not dense:
        return ours
    if experts.shared_inner % experts.inner:
        return ours
    if experts.score == "softmax" and not experts.normalised and "sparse" not in config.reach:
        return "deepseek_v2"
    if experts.score == "sigmoid" and experts.normalised and isinstance(part, LatentConfig):
        if set(config.reach) == {"sparse"}:
            return "deepseek_v32"
        return "deepseek_v3" if set(config.reach) == {"full"} and not part.index_heads else ours
    return ours


def _is_v41(config: CoreConfig) -> bool:
    """Whether a core is made of what V4.1's layers are made of."""
    part, experts, memory = config.attention, config.experts, config.engram
    return (
        isinstance(part, AttentionConfig)
        and set(config.reach) <= {"sliding", "shared_compressed"}
        and (part.sharing is None or (part.sharing.entry_tile, part.sharing.key_tile) == (16, 32))
        and (part.head_norm, part.grid, config.lanes.passes, config.lanes.mixing) == (False, 32, 1, "mhc")
        and (memory is None or (memory.form, memory.seed) == ("fused", 0))
        and experts.limit is not None
        and experts.picture_bias
        and (experts.score, experts.hashed, experts.dense) == ("sqrtsoftplus", (), ())
        and experts.shared_inner % experts.inner == 0
        and not (config.draft or config.embed_norm or config.tied)
        and config.lanes.count > 1
    )


def write_config(config: CoreConfig) -> dict[str, Any]:
    """What `config_json.read_config` reads back to the same configuration."""
    kind = family(config)
    if kind == "dsv4":
        return {"model_type": "dsv4", "core": config.to_dict()}
    experts, layers = config.experts, config.layers
    written = {
        "architectures": [ARCHITECTURES[kind]],
        "model_type": kind,
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": config.attention.heads,
        "moe_intermediate_size": experts.inner,
        "n_routed_experts": experts.count,
        "n_shared_experts": experts.shared_inner // experts.inner,
        "num_experts_per_tok": experts.chosen,
        "routed_scaling_factor": experts.scale,
        "norm_topk_prob": experts.normalised,
        "scoring_func": experts.score,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tied,
        "hidden_act": "silu",
        "attention_bias": False,
        "num_nextn_predict_layers": config.draft,
    }
    if kind == "deepseek_v41" and isinstance(config.attention, AttentionConfig):
        return {**written, **_v41(config, config.attention)}
    if isinstance(config.attention, AttentionConfig):
        return {**written, **_v4(config, config.attention)}
    written["intermediate_size"] = experts.dense_inner or experts.inner
    written["first_k_dense_replace"] = len(experts.dense)
    written |= {"n_group": experts.groups, "topk_group": experts.groups_chosen}
    if kind == "deepseek_v2":
        written["topk_method"] = "group_limited_greedy" if experts.groups > 1 else "greedy"
        del written["num_nextn_predict_layers"]
    if isinstance(config.attention, HeadsConfig):
        heads = {"use_mla": False, "num_key_value_heads": config.attention.kv_heads}
        return {**written, **heads, "rope_theta": config.attention.theta, **_length(None)}
    return {**written, **_latent(config.attention), **_length(config.attention.yarn)}


def _latent(part: LatentConfig) -> dict[str, Any]:
    written = {
        "num_key_value_heads": part.heads,
        "kv_lora_rank": part.latent,
        "q_lora_rank": part.q_rank,
        "qk_nope_head_dim": part.plain,
        "qk_rope_head_dim": part.rotated,
        "v_head_dim": part.value,
        "rope_parameters": {"rope_theta": part.theta, **_rope(part.yarn)},
    }
    if part.index_heads:
        indexer = {"index_topk": part.top_k, "index_n_heads": part.index_heads, "index_head_dim": part.index_size}
        written |= indexer
    return written


def _v4(config: CoreConfig, part: AttentionConfig) -> dict[str, Any]:
    words = {"sliding": "sliding_attention", "compressed_sparse": "compressed_sparse_attention",
             "heavily_compressed": "heavily_compressed_attention"}  # fmt: skip
    factor = part.rotated / part.entry
    return {
        **_v4_like(config, part),
        "partial_rotary_factor": factor,
        "layer_types": [words[reach] for reach in config.reach],
        "compress_rates": {words["compressed_sparse"]: part.light, words["heavily_compressed"]: part.heavy},
        "rope_parameters": {
            "main": {"rope_type": "default", "rope_theta": part.theta, "partial_rotary_factor": factor},
            "compress": {"rope_theta": part.far_theta, "partial_rotary_factor": factor, **_rope(part.yarn)},
        },
        "mlp_layer_types": ["hash_moe" if layer in config.experts.hashed else "moe" for layer in range(config.layers)],
    }


def _v4_like(config: CoreConfig, part: AttentionConfig) -> dict[str, Any]:
    lanes = config.lanes
    return {
        "num_key_value_heads": 1,
        "head_dim": part.entry,
        "q_lora_rank": part.q_rank,
        "o_groups": part.groups,
        "o_lora_rank": part.o_rank,
        "sliding_window": part.window,
        "index_topk": part.top_k,
        "index_n_heads": part.index_heads,
        "index_head_dim": part.index_size,
        "compress_rope_theta": part.far_theta,
        "rope_theta": part.theta,
        "swiglu_limit": config.experts.limit,
        "hc_mult": lanes.count,
        "hc_sinkhorn_iters": lanes.iterations,
        "hc_eps": lanes.eps,
        **_length(part.yarn),
    }


def _v41(config: CoreConfig, part: AttentionConfig) -> dict[str, Any]:
    written = {**_v4_like(config, part), "qk_rope_head_dim": part.rotated, **_sharing(config, part)}
    memory = config.engram
    if memory is not None:
        sizes = prime_sizes(memory.layers, [memory.rows] * memory.orders, memory.heads)
        written |= {
            "engram_layer_ids": list(memory.layers),
            "engram_num_embeddings": [sum(map(sum, sizes[layer])) for layer in memory.layers],
            "engram_max_ngram_size": memory.max_order,
            "engram_vocab_size": memory.rows,
            "engram_n_heads": memory.heads,
            "engram_head_dim": memory.width,
            "engram_pad_token_id": memory.pad_id,
        }
    return written


def _sharing(config: CoreConfig, part: AttentionConfig) -> dict[str, Any]:
    plan = part.sharing
    if plan is None:
        nothing = {"kv_source_layer_ids": [], "index_source_layer_ids": [], "candidate_source_layer_id": -1}
        return {"compress_ratios": [0] * config.layers, **nothing}
    return {
        "compress_ratios": list(plan.ratios),
        "kv_source_layer_ids": list(plan.sources),
        "index_source_layer_ids": list(plan.choosers),
        "candidate_source_layer_id": -1 if plan.pool_source is None else plan.pool_source,
        "candidate_topk_blocks": plan.pool_blocks,
        "candidate_block_size": plan.pool_size,
        "rope_scaling": _rope(part.yarn),
    }


def _rope(yarn: YarnConfig | None) -> dict[str, Any]:
    if yarn is None:
        return {"rope_type": "default"}
    scales = {
        "mscale": yarn.mscale or None,
        "mscale_all_dim": yarn.mscale_all or None,
        "attention_factor": yarn.stretch,
    }
    return {
        "rope_type": "yarn",
        "factor": yarn.factor,
        "original_max_position_embeddings": yarn.original,
        "beta_fast": yarn.fast,
        "beta_slow": yarn.slow,
        **{key: value for key, value in scales.items() if value is not None},
    }


def _length(yarn: YarnConfig | None) -> dict[str, int]:
    """Nothing here depends on a greatest length; readers of the file want one."""
    return {"max_position_embeddings": int(yarn.factor * yarn.original) if yarn else 1_048_576}
