"""`config.json` of released models to CoreConfig and back; a key that is not known is refused by name.

Source: the configuration classes of transformers (deepseek_v2, v3, v32, v4, deepseek_ocr2_text) and the releases' own
files. Every key is read, known to change nothing here, or only allowed with the one value that this core computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dsv4.core.config import (
    AttentionConfig,
    CoreConfig,
    EngramConfig,
    ExpertsConfig,
    HeadsConfig,
    LanesConfig,
    LatentConfig,
    SharingConfig,
    YarnConfig,
)
from dsv4.errors import InputError, nearest

# Keys that say nothing about what is computed.
IDLE = frozenset(
    "_name_or_path _attn_implementation_autoset architectures attention_dropout aux_loss_alpha auto_map bos_token_id "
    "dtype eos_token_id ep_size expert_dtype head_dim id2label initializer_range label2id max_position_embeddings "
    "model_type num_local_experts num_nextn_predict_layers output_router_logits pad_token_id pretraining_tp "
    "qk_head_dim quantization_config return_dict router_aux_loss_coef router_jitter_noise seq_aux torch_dtype "
    "transformers_version unsloth_version use_cache".split()
)
# Keys with one allowed value.
FIXED: dict[str, Any] = {
    "hidden_act": "silu", "attention_bias": False, "mlp_bias": False, "moe_layer_freq": 1, "rope_interleave": True,
    "lm_head": True, "rm_head": False,
}  # fmt: skip


class Keys:
    """A config.json being read: what was not asked for in the end is refused."""

    def __init__(self, given: Mapping[str, Any], where: str) -> None:
        self.given, self.where = dict(given), where
        self.asked = set(IDLE)

    def get(self, key: str, default: Any = None) -> Any:
        """The value, or the default where it is missing or null."""
        self.asked.add(key)
        value = self.given.get(key)
        return default if value is None else value

    def need(self, key: str) -> Any:
        """The value; InputError where there is none."""
        value = self.get(key)
        if value is None:
            raise InputError(f"{self.where}: '{key}' is missing")
        return value

    def only(self, key: str, *allowed: Any) -> None:
        """InputError unless the value is one of these, or not given."""
        value = self.get(key, allowed[0])
        if value not in allowed:
            raise InputError(f"{self.where}: {key}={value!r} is not supported, only {' or '.join(map(repr, allowed))}")

    def finish(self) -> None:
        """InputError for a fixed key with another value, and for keys that nobody asked for."""
        for key, allowed in FIXED.items():
            self.only(key, allowed)
        for key in self.given:
            if key not in self.asked:
                near = nearest(key, self.asked)
                hint = f"; did you mean '{near}'?" if near else ", and what it changes is not known"
                raise InputError(f"{self.where}: unknown key '{key}'{hint}")


def read_config(given: Mapping[str, Any], *, where: str = "config.json", layers: int | None = None) -> CoreConfig:
    """The core's configuration, or that of its first `layers`; InputError for a kind of model, key or value that is not
    supported."""
    if given.get("model_type") == "dsv4":
        return CoreConfig.from_dict(given["core"])
    for key in ("language_config", "text_config"):  # the language part of a model that also sees
        if isinstance(given.get(key), Mapping):
            inner = {"model_type": _inner_type(given), **given[key]}
            return read_config(inner, where=f"{where}, {key}", layers=layers)
    if layers is not None:
        given = {**given, "num_hidden_layers": _leading(given, layers, where)}
    kind = str(given.get("model_type"))
    reader = _READERS.get(kind)
    if reader is None:
        near = nearest(kind, _READERS)
        hint = f"did you mean '{near}'? " if near else ""
        raise InputError(f"{where}: unknown model_type '{kind}'; {hint}known are {', '.join(_READERS)} and dsv4")
    keys = Keys(given, where)
    try:
        config = reader(keys)
    except InputError:
        raise
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    keys.finish()
    return config


def _leading(given: Mapping[str, Any], layers: int, where: str) -> int:
    there = given.get("num_hidden_layers", 0)
    if not 1 <= layers <= there:
        raise InputError(f"{where}: the model has {there} layers, so its first {layers} cannot be read")
    return layers


def _inner_type(given: Mapping[str, Any]) -> str:
    if "v41" in str(given.get("model_type")).lower():
        return "deepseek_v41"
    return "deepseek_ocr2_text" if "ocr" in str(given.get("model_type")).lower() else "deepseek_v2"


def _yarn(keys: Keys, rope: Mapping[str, Any]) -> YarnConfig | None:
    kind = rope.get("rope_type", rope.get("type", "default"))
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", "factor", "original_max_position_embeddings",
             "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "attention_factor", "truncate"}  # fmt: skip
    strange = set(rope) - known
    if kind not in ("default", "yarn") or strange or not rope.get("truncate", True):
        what = ", ".join(sorted(strange)) if strange else repr(kind)
        raise InputError(f"{keys.where}: rotary positions with {what} are not supported, only default or yarn")
    if kind == "default":
        return None
    return YarnConfig(
        factor=float(rope["factor"]),
        original=int(rope["original_max_position_embeddings"]),
        fast=float(rope.get("beta_fast") or 32),
        slow=float(rope.get("beta_slow") or 1),
        mscale=float(rope.get("mscale") or 0),
        mscale_all=float(rope.get("mscale_all_dim") or 0),
        stretch=rope.get("attention_factor"),
    )


def _rope(keys: Keys) -> tuple[float, YarnConfig | None]:
    rope = {**keys.get("rope_scaling", {}), **keys.get("rope_parameters", {})}
    theta = keys.get("rope_theta", rope.get("rope_theta", 1e4))
    return float(rope.get("rope_theta", theta)), _yarn(keys, rope)


def _experts(keys: Keys, *, score: str, layers: int) -> ExpertsConfig:
    inner, count = keys.need("moe_intermediate_size"), keys.need("n_routed_experts")
    dense = tuple(range(min(layers, keys.get("first_k_dense_replace", 0))))
    kinds = keys.get("mlp_layer_types")
    if kinds is not None:
        dense = tuple(layer for layer, kind in enumerate(kinds[:layers]) if kind == "dense")
    default = "greedy" if score == "softmax" else "noaux_tc"
    keys.only("topk_method", default, *(("group_limited_greedy",) if score == "softmax" else ()))
    keys.only("scoring_func", score)
    keys.only("norm_topk_prob", score != "softmax")
    grouped = score != "softmax" or keys.get("topk_method") == "group_limited_greedy"
    groups, groups_chosen = keys.get("n_group", 1), keys.get("topk_group", 1)
    return ExpertsConfig(
        count=count,
        chosen=keys.need("num_experts_per_tok"),
        inner=inner,
        shared_inner=inner * keys.get("n_shared_experts", 1),
        scale=float(keys.get("routed_scaling_factor", 1.0)),
        score=score,
        normalised=score != "softmax",
        groups=groups if grouped else 1,
        groups_chosen=groups_chosen if grouped else 1,
        dense=dense,
        dense_inner=keys.get("intermediate_size", 0),
    )


def _core(keys: Keys, attention: Any, experts: ExpertsConfig, reach: tuple[str, ...], **more: Any) -> CoreConfig:
    return CoreConfig(
        vocab_size=keys.need("vocab_size"),
        hidden=keys.need("hidden_size"),
        reach=reach,
        attention=attention,
        experts=experts,
        tied=keys.get("tie_word_embeddings", False),
        norm_eps=float(keys.get("rms_norm_eps", 1e-6)),
        embed_norm=False,
        **{"lanes": LanesConfig(count=1), **more},
    )


def _latent(keys: Keys, **more: Any) -> LatentConfig:
    theta, yarn = _rope(keys)
    keys.get("num_key_value_heads")  # every head unfolds its own: nothing to choose
    return LatentConfig(
        heads=keys.need("num_attention_heads"),
        latent=keys.need("kv_lora_rank"),
        plain=keys.need("qk_nope_head_dim"),
        rotated=keys.need("qk_rope_head_dim"),
        value=keys.need("v_head_dim"),
        q_rank=keys.get("q_lora_rank"),
        theta=theta,
        yarn=yarn,
        **more,
    )


def _read_v2(keys: Keys) -> CoreConfig:
    if keys.get("use_mla") is False:
        return _read_heads(keys)
    layers = keys.need("num_hidden_layers")
    return _core(keys, _latent(keys), _experts(keys, score="softmax", layers=layers), ("full",) * layers)


def _read_heads(keys: Keys) -> CoreConfig:
    keys.only("use_mla", False)
    for key in ("kv_lora_rank", "q_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"):
        keys.get(key)  # present in the release and unused without latents
    layers, heads = keys.need("num_hidden_layers"), keys.need("num_attention_heads")
    theta, yarn = _rope(keys)
    if yarn is not None:
        raise InputError(f"{keys.where}: ordinary attention with yarn is not supported")
    attention = HeadsConfig(
        heads=heads,
        kv_heads=keys.get("num_key_value_heads", heads),
        size=keys.need("hidden_size") // heads,
        theta=theta,
    )
    return _core(keys, attention, _experts(keys, score="softmax", layers=layers), ("full",) * layers)


def _read_v3(keys: Keys) -> CoreConfig:
    layers = keys.need("num_hidden_layers")
    return _core(keys, _latent(keys), _experts(keys, score="sigmoid", layers=layers), ("full",) * layers)


def _read_v32(keys: Keys) -> CoreConfig:
    layers = keys.need("num_hidden_layers")
    kinds = keys.get("layer_types", ["indexed_attention"] * layers)
    if set(kinds) != {"indexed_attention"}:
        raise InputError(f"{keys.where}: layer_types may only hold 'indexed_attention', got {sorted(set(kinds))}")
    attention = _latent(
        keys,
        top_k=keys.get("index_topk", 2048),
        index_heads=keys.get("index_n_heads", 64),
        index_size=keys.get("index_head_dim", 128),
    )
    return _core(keys, attention, _experts(keys, score="sigmoid", layers=layers), ("sparse",) * layers)


V4_REACH = {"sliding_attention": "sliding", "compressed_sparse_attention": "compressed_sparse",
            "heavily_compressed_attention": "heavily_compressed"}  # fmt: skip
RATIO_REACH = {0: "sliding", 4: "compressed_sparse", 128: "heavily_compressed"}


def _v4_reach(keys: Keys, layers: int) -> tuple[str, ...]:
    kinds, ratios = keys.get("layer_types"), keys.get("compress_ratios")
    if kinds is not None:
        return tuple(V4_REACH[kind] for kind in kinds[:layers])
    if ratios is not None:
        return tuple(RATIO_REACH[ratio] for ratio in ratios[:layers])
    raise InputError(f"{keys.where}: 'layer_types' or 'compress_ratios' must say how each layer attends")


def _read_v4(keys: Keys) -> CoreConfig:
    layers, entry = keys.need("num_hidden_layers"), keys.need("head_dim")
    factor = keys.get("partial_rotary_factor", 64 / 512)
    rotated = keys.get("qk_rope_head_dim", int(entry * factor))
    rope = {**keys.get("rope_scaling", {}), **keys.get("rope_parameters", {})}
    far = rope.get("compress", {"attention_factor": 1.0, **{k: v for k, v in rope.items() if k != "main"}})
    near = rope.get("main", {})
    if _yarn(keys, near) is not None:
        raise InputError(f"{keys.where}: sliding layers with yarn are not supported")
    rates = keys.get("compress_rates", {})
    hashed = keys.get("num_hash_layers", 3)
    kinds = keys.get("mlp_layer_types", ["hash_moe"] * hashed + ["moe"] * layers)[:layers]
    keys.only("num_key_value_heads", 1)
    attention = AttentionConfig(
        heads=keys.need("num_attention_heads"),
        entry=entry,
        rotated=rotated,
        q_rank=keys.need("q_lora_rank"),
        groups=keys.need("o_groups"),
        o_rank=keys.need("o_lora_rank"),
        window=keys.need("sliding_window"),
        top_k=keys.need("index_topk"),
        index_heads=keys.need("index_n_heads"),
        index_size=keys.need("index_head_dim"),
        index_rotated=rotated,
        theta=float(near.get("rope_theta", keys.get("rope_theta", 1e4))),
        light=keys.get("compress_rate_csa", rates.get("compressed_sparse_attention", 4)),
        heavy=keys.get("compress_rate_hca", rates.get("heavily_compressed_attention", 128)),
        far_theta=float(keys.get("compress_rope_theta", far.get("rope_theta", 1.6e5))),
        yarn=_yarn(keys, far),
    )
    keys.only("topk_method", "noaux_tc")
    keys.only("scoring_func", "sqrtsoftplus")
    keys.only("norm_topk_prob", True)
    inner = keys.need("moe_intermediate_size")
    experts = ExpertsConfig(
        count=keys.need("n_routed_experts"),
        chosen=keys.need("num_experts_per_tok"),
        inner=inner,
        shared_inner=inner * keys.get("n_shared_experts", 1),
        scale=float(keys.get("routed_scaling_factor", 1.5)),
        limit=float(keys.get("swiglu_limit", 10.0)),
        hashed=tuple(layer for layer, kind in enumerate(kinds) if kind == "hash_moe"),
    )
    lanes = LanesConfig(
        count=keys.get("hc_mult", 4), iterations=keys.get("hc_sinkhorn_iters", 20), eps=float(keys.get("hc_eps", 1e-6))
    )
    return _core(keys, attention, experts, _v4_reach(keys, layers), lanes=lanes)


# What V4.1 says of its guessing layers, which are not built here, and what follows from other keys.
V41_BEYOND = ("dspark_block_size dspark_noise_token_id dspark_target_layer_ids dspark_markov_rank "
              "dspark_n_routed_experts dspark_num_experts_per_tok engram_num_embeddings "
              "engram_compressed_vocab_size")  # fmt: skip
V41_GRID = 32  # numbers of an entry that share a scale
V41_YARN = {"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 65536}  # where nothing is said


def _sharing(keys: Keys, layers: int) -> SharingConfig | None:
    ratios = tuple(keys.need("compress_ratios"))
    sources, choosers = (tuple(keys.get(f"{name}_source_layer_ids", [])) for name in ("kv", "index"))
    pool = keys.get("candidate_source_layer_id", -1)
    sizes = keys.get("candidate_topk_blocks", 2048), keys.get("candidate_block_size", 8)
    if not any(ratios[:layers]):
        return None
    whole = SharingConfig(
        ratios=ratios, sources=sources, choosers=choosers, pool_source=None if pool < 0 else pool,
        pool_blocks=sizes[0], pool_size=sizes[1],
    )  # fmt: skip
    return whole.leading(layers)


def _read_v41(keys: Keys) -> CoreConfig:
    layers, entry = keys.need("num_hidden_layers"), keys.need("head_dim")
    keys.asked |= set(V41_BEYOND.split())
    sharing = _sharing(keys, layers)
    rope = {**keys.get("rope_scaling", {}), **keys.get("rope_parameters", {})}
    keys.only("num_key_value_heads", 1)
    keys.only("gate_temp", 1.0)
    rotated, inner = keys.need("qk_rope_head_dim"), keys.need("moe_intermediate_size")
    attention = AttentionConfig(
        heads=keys.need("num_attention_heads"),
        entry=entry,
        rotated=rotated,
        q_rank=keys.need("q_lora_rank"),
        groups=keys.need("o_groups"),
        o_rank=keys.need("o_lora_rank"),
        window=keys.need("sliding_window"),
        top_k=keys.need("index_topk"),
        index_heads=keys.need("index_n_heads"),
        index_size=keys.need("index_head_dim"),
        index_rotated=rotated,
        theta=float(keys.get("rope_theta", 1e4)),
        far_theta=float(keys.get("compress_rope_theta", 1.6e5)),
        head_norm=False,
        grid=V41_GRID,
        yarn=None if sharing is None else _yarn(keys, {"attention_factor": 1.0, **(rope or V41_YARN)}),
        sharing=sharing,
    )
    keys.only("topk_method", "noaux_tc")
    keys.only("scoring_func", "sqrtsoftplus")
    keys.only("norm_topk_prob", True)
    experts = ExpertsConfig(
        count=keys.need("n_routed_experts"),
        chosen=keys.need("num_experts_per_tok"),
        inner=inner,
        shared_inner=inner * keys.get("n_shared_experts", 1),
        scale=float(keys.get("routed_scaling_factor", 1.5)),
        limit=float(keys.get("swiglu_limit", 10.0)),
        picture_bias=True,
    )
    lanes = LanesConfig(
        count=keys.get("hc_mult", 4),
        iterations=keys.get("hc_sinkhorn_iters", 20),
        eps=float(keys.get("hc_eps", 1e-6)),
        passes=1,
    )
    reach = tuple("shared_compressed" if ratio else "sliding" for ratio in keys.need("compress_ratios")[:layers])
    return _core(keys, attention, experts, reach, lanes=lanes, engram=_memory(keys, layers))


def _memory(keys: Keys, layers: int) -> EngramConfig | None:
    pad = keys.get("engram_pad_token_id", keys.get("engram_pad_id", 2))  # both spellings are in use
    found = EngramConfig(
        layers=tuple(layer for layer in keys.get("engram_layer_ids", []) if layer < layers),
        rows=keys.get("engram_vocab_size", 1),
        width=keys.get("engram_head_dim", 1),
        heads=keys.get("engram_n_heads", 1),
        max_order=keys.get("engram_max_ngram_size", 4),
        pad_id=pad,
        form="fused",
    )
    return found if found.layers else None


_READERS: dict[str, Callable[[Keys], CoreConfig]] = {
    "deepseek_v2": _read_v2,
    "deepseek_v3": _read_v3,
    "deepseek_v32": _read_v32,
    "deepseek_v4": _read_v4,
    "deepseek_v41": _read_v41,
    "deepseek_v41_text": _read_v41,
    "deepseek_ocr2_text": _read_heads,
}
