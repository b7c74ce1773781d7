"""What the parameters of our core are called in released checkpoints: one table, read in both directions.

Source: the state dictionaries of transformers' deepseek_v2, v3, v32, v4 and deepseek_ocr2_text, and the names that
DeepSeek's own files use; V4's are the latter, to which transformers' are turned first.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from dsv4.core.config import CoreConfig
from dsv4.errors import InputError


@dataclass(frozen=True)
class Recipe:
    """How one of our tensors is made of theirs: a stack of `rows`, each its `parts` joined along their first dimension.

    A recipe that is not stacked has one row. `whole` is the name of a tensor that already is the stack.
    """

    rows: tuple[tuple[str, ...], ...]
    stacked: bool = False
    whole: str | None = None


V3_TOP = {"embedding.weight": "model.embed_tokens.weight", "out_norm.weight": "model.norm.weight",
          "head.weight": "lm_head.weight"}  # fmt: skip
V3_LAYER = {
    "attention_norm.weight": "input_layernorm.weight",
    "experts_norm.weight": "post_attention_layernorm.weight",
    "attention.query_down.weight": "self_attn.q_a_proj.weight",
    "attention.query_norm.weight": "self_attn.q_a_layernorm.weight",
    "attention.query_up.weight": "self_attn.q_b_proj.weight",
    "attention.entry.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "attention.entry_norm.weight": "self_attn.kv_a_layernorm.weight",
    "attention.unfold.weight": "self_attn.kv_b_proj.weight",
    "attention.out.weight": "self_attn.o_proj.weight",
    "attention.query.weight": "self_attn.q_proj.weight",
    "attention.key.weight": "self_attn.k_proj.weight",
    "attention.value_of.weight": "self_attn.v_proj.weight",
    "attention.indexer.query.weight": "self_attn.indexer.wq_b.weight",
    "attention.indexer.key.weight": "self_attn.indexer.wk.weight",
    "attention.indexer.key_norm.weight": "self_attn.indexer.k_norm.weight",
    "attention.indexer.key_norm.bias": "self_attn.indexer.k_norm.bias",
    "attention.indexer.weights.weight": "self_attn.indexer.weights_proj.weight",
    "experts.router.weight": "mlp.gate.weight",
    "experts.router.bias": "mlp.gate.e_score_correction_bias",
    "experts.shared_out.weight": "mlp.shared_experts.down_proj.weight",
    "experts.dense_out.weight": "mlp.down_proj.weight",
}
V3_DRAFT = {"token_norm.weight": "enorm.weight", "hidden_norm.weight": "hnorm.weight", "join.weight": "eh_proj.weight",
            "out_norm.weight": "shared_head.norm.weight"}  # fmt: skip
V4_TOP = {
    "embedding.weight": "embed.weight", "out_norm.weight": "norm.weight", "head.weight": "head.weight",
    "hyper_out.fn": "hc_head_fn", "hyper_out.base": "hc_head_base", "hyper_out.scale": "hc_head_scale",
}  # fmt: skip
V4_LAYER = {
    "attention_norm.weight": "attn_norm.weight",
    "experts_norm.weight": "ffn_norm.weight",
    "attention.query_down.weight": "attn.wq_a.weight",
    "attention.query_norm.weight": "attn.q_norm.weight",
    "attention.query_up.weight": "attn.wq_b.weight",
    "attention.entry.weight": "attn.wkv.weight",
    "attention.entry_norm.weight": "attn.kv_norm.weight",
    "attention.sink": "attn.attn_sink",
    "attention.out_groups": "attn.wo_a.weight",
    "attention.out.weight": "attn.wo_b.weight",
    "attention.compressor.entry.weight": "attn.compressor.wkv.weight",
    "attention.compressor.gate.weight": "attn.compressor.wgate.weight",
    "attention.compressor.place": "attn.compressor.ape",
    "attention.compressor.norm.weight": "attn.compressor.norm.weight",
    "attention.window_indexer.query.weight": "attn.indexer.wq_b.weight",
    "attention.window_indexer.weights.weight": "attn.indexer.weights_proj.weight",
    "attention.window_indexer.compressor.entry.weight": "attn.indexer.compressor.wkv.weight",
    "attention.window_indexer.compressor.gate.weight": "attn.indexer.compressor.wgate.weight",
    "attention.window_indexer.compressor.place": "attn.indexer.compressor.ape",
    "attention.window_indexer.compressor.norm.weight": "attn.indexer.compressor.norm.weight",
    "hyper_attention.fn": "hc_attn_fn",
    "hyper_attention.base": "hc_attn_base",
    "hyper_attention.scale": "hc_attn_scale",
    "hyper_experts.fn": "hc_ffn_fn",
    "hyper_experts.base": "hc_ffn_base",
    "hyper_experts.scale": "hc_ffn_scale",
    "experts.router.weight": "ffn.gate.weight",
    "experts.router.bias": "ffn.gate.bias",
    "experts.router.routes": "ffn.gate.tid2eid",
    "experts.shared_out.weight": "ffn.shared_experts.w2.weight",
}
V41_LAYER = {
    "attention.pool.entry.weight": "attn.compressor.wkv.weight",
    "attention.pool.gate.weight": "attn.compressor.wgate.weight",
    "attention.pool.norm.weight": "attn.compressor.norm.weight",
    "attention.window_indexer.key.weight": "attn.indexer.wk.weight",
    "attention.window_indexer.key_norm.weight": "attn.indexer.k_norm.weight",
    "experts.router.picture_bias": "ffn.gate.bias_vl",
    "engram.table.weight": "engram.embed.weight",
    "engram.both.weight": "engram.wkv.weight",
    "engram.key_norm": "engram.k_weight",
    "engram.lane_norm": "engram.q_weight",
}

# Other spellings, turned into those above before anything is looked up.
V3_SPELLINGS = ((r"^(?:model\.language_model\.|language_model\.model\.)", "model."), (r"^language_model\.", ""),
                (r"^(?=(?:layers|embed_tokens|norm)\.)", "model."))  # fmt: skip
V4_SPELLINGS = (
    (r"^model\.", ""), (r"^embed_tokens\.", "embed."), (r"^lm_head\.", "head."), (r"^hc_head\.hc_", "hc_head_"),
    (r"\.self_attn\.", ".attn."), (r"\.mlp\.", ".ffn."), (r"\.input_layernorm\.", ".attn_norm."),
    (r"\.post_attention_layernorm\.", ".ffn_norm."), (r"\.attn_hc\.", ".hc_attn_"), (r"\.ffn_hc\.", ".hc_ffn_"),
    (r"\.attn\.norm\.", ".attn.kv_norm."), (r"\.attn\.sinks$", ".attn.attn_sink"), (r"\.q_a_norm\.", ".q_norm."),
    (r"\.attn\.q_a_proj\.", ".attn.wq_a."), (r"\.q_b_proj\.", ".wq_b."), (r"\.kv_proj\.", ".wkv."),
    (r"\.compressor\.indexer\.(wkv|gate_proj|position_bias|kv_norm)", r".indexer.compressor.\1"),
    (r"\.compressor\.indexer\.", ".indexer."), (r"\.scorer\.weights_proj\.", ".weights_proj."),
    (r"\.compressor\.gate_proj\.", ".compressor.wgate."), (r"\.position_bias$", ".ape"),
    (r"\.compressor\.kv_norm\.", ".compressor.norm."), (r"\.o_a_proj\.", ".wo_a."), (r"\.o_b_proj\.", ".wo_b."),
    (r"\.e_score_correction_bias$", ".bias"), (r"(experts(?:\.\d+)?)\.gate_proj\.", r"\1.w1."),
    (r"(experts(?:\.\d+)?)\.down_proj\.", r"\1.w2."), (r"(experts(?:\.\d+)?)\.up_proj\.", r"\1.w3."),
)  # fmt: skip

# Tensors that a folder may hold beside those of the language core.
V4_LIKE = ("deepseek_v4", "deepseek_v41")
SEEING = r"^(?:model\.)?(?:sam_model|vision_model|vision_tower|vision|multi_modal_projector|projector|aligner)\.|" \
         r"(?:image_newline|view_sep[ea]rator)$"  # fmt: skip


def spelt(name: str, family: str) -> str:
    """A checkpoint's tensor name in the spelling of the tables."""
    for pattern, instead in V4_SPELLINGS if family in V4_LIKE else V3_SPELLINGS:
        name = re.sub(pattern, instead, name)
    return name


def respelt(names: Iterable[str], family: str) -> dict[str, str]:
    """The table's spelling of each name, and the name as it stands; InputError when two are one."""
    found: dict[str, str] = {}
    for name in names:
        ours = spelt(name, family)
        if ours in found:
            raise InputError(f"the tensors '{found[ours]}' and '{name}' are the same part of the model")
        found[ours] = name
    return found


def extra(config: CoreConfig, family: str) -> re.Pattern[str]:
    """Tensors that may be left over: eyes, rotation speeds, guessing layers that are not loaded, and what is tied."""
    patterns = [SEEING, r"rotary_emb\.inv_freq$"]
    if family in V4_LIKE:
        patterns.append(r"^mtp\.")
    else:
        beyond = rf"^model\.layers\.{config.layers}\."
        patterns.append(rf"{beyond}(?:embed_tokens|shared_head\.head)\." if config.draft else beyond)
    if family == "deepseek_v41":  # leading layers may be read of a folder that holds all; and eyes
        later = "|".join(str(layer) for layer in range(config.layers))
        patterns += [rf"^layers\.(?!(?:{later})\.)", r"^image_(?:start|end|newline)$"]
    if config.tied:
        patterns.append(r"^(?:lm_)?head\.weight$")
    return re.compile("|".join(f"(?:{pattern})" for pattern in patterns))


def recipe(name: str, config: CoreConfig, family: str) -> Recipe:
    """How our tensor `name` is made of a checkpoint's; InputError for one that the family has no name for."""
    v4 = family in V4_LIKE
    top, layers = (V4_TOP, V4_LAYER) if v4 else (V3_TOP, V3_LAYER)
    layers = layers | V41_LAYER if family == "deepseek_v41" else layers
    if name in top:
        return Recipe(((top[name],),))
    prefix = "layers" if v4 else "model.layers"
    block = re.fullmatch(r"blocks\.(\d+)\.(.+)", name)
    draft = re.fullmatch(r"draft\.(?:block\.)?(.+)", name)
    if block is not None:
        number, rest = int(block[1]), block[2]
    elif draft is not None and not v4:
        number, rest = config.layers, draft[1]
        if name.startswith("draft.") and rest in V3_DRAFT and ".block." not in name:
            return Recipe(((f"{prefix}.{number}.{V3_DRAFT[rest]}",),))
    else:
        raise InputError(f"models of kind {family} have no tensor for '{name}'")
    at = f"{prefix}.{number}."
    unit = "ffn" if v4 else "mlp"
    gate, up, down = ("w1", "w3", "w2") if v4 else ("gate_proj", "up_proj", "down_proj")
    if rest in ("experts.experts_in", "experts.experts_out"):
        parts = (gate, up) if rest.endswith("in") else (down,)
        whole = f"{at}{unit}.experts.{'gate_up_proj' if rest.endswith('in') else 'down_proj'}"
        each = (f"{at}{unit}.experts.{expert}" for expert in range(config.experts.count))
        return Recipe(tuple(tuple(f"{one}.{part}.weight" for part in parts) for one in each), True, whole)
    if rest in ("experts.shared_in.weight", "experts.dense_in.weight"):
        inside = "shared_experts." if "shared" in rest else ""
        return Recipe((tuple(f"{at}{unit}.{inside}{part}.weight" for part in (gate, up)),))
    if rest == "attention.query_up.weight" and getattr(config.attention, "q_rank", 0) is None:
        return Recipe(((f"{at}self_attn.q_proj.weight",),))
    if rest not in layers:
        raise InputError(f"models of kind {family} have no tensor for '{name}'")
    return Recipe(((at + layers[rest],),))
