"""Small DeepSeek-V4.1 models as NeMo Automodel computes them: what `test_core_v41.py` and `test_core_shared.py` compare
with. The first has sliding layers alone, the others all kinds that share compressed entries.

The package cannot be locked beside the others (it pins another transformers), so its logits are kept in a file. To make
them again, install nemo-automodel 0.7.0 without its dependencies and run `python -m tests.core.nemo_v41 NAME...`.
Weights come from NumPy's generator by name, so only names and shapes are kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

KEPT = {name: Path(__file__).with_name(f"nemo_v41{name}.safetensors") for name in ("", "_six", "_eight")}
LAYERS = 3
TEXT: dict[str, Any] = dict(
    vocab_size=96, hidden_size=64, moe_intermediate_size=32, num_hidden_layers=LAYERS, num_attention_heads=4,
    head_dim=64, qk_rope_head_dim=16, q_lora_rank=32, o_lora_rank=16, o_groups=2, n_routed_experts=8,
    n_shared_experts=1, num_experts_per_tok=3, sliding_window=8, compress_ratios=[0] * LAYERS, kv_source_layer_ids=[],
    index_source_layer_ids=[], candidate_source_layer_id=-1, index_n_heads=4, index_head_dim=32, index_topk=4,
    hc_mult=4, engram_layer_ids=[0, 2], engram_max_ngram_size=4, engram_vocab_size=50, engram_n_heads=2,
    engram_head_dim=32, engram_pad_token_id=2, num_nextn_predict_layers=0, rms_norm_eps=1e-20, swiglu_limit=0.8,
    routed_scaling_factor=1.5, max_position_embeddings=256,
)  # fmt: skip
# Layer by layer: makes entries, chooses anew, reads what was chosen; and the same within a pool of blocks.
SHARING: dict[str, dict[str, Any]] = {
    "_six": dict(num_hidden_layers=6, compress_ratios=[0, 0, 2, 2, 1, 1], kv_source_layer_ids=[2, 4],
                 index_source_layer_ids=[2, 4, 5], candidate_source_layer_id=4),
    "_eight": dict(num_hidden_layers=8, compress_ratios=[0, 2, 2, 2, 0, 1, 1, 1, 0], kv_source_layer_ids=[1, 5],
                   index_source_layer_ids=[1, 2, 5, 6], candidate_source_layer_id=5),
}  # fmt: skip
TEXTS = {"": TEXT} | {
    name: TEXT | given | dict(index_n_heads=16, candidate_topk_blocks=4, candidate_block_size=2, index_topk=5,
                              engram_layer_ids=[1, 3])
    for name, given in SHARING.items()
}  # fmt: skip
# Gradients that are kept, of the mean negative log likelihood of each next token.
GRADIENTS = ("layers.2.attn.compressor.norm.weight", "layers.2.attn.compressor.wgate.weight",
             "layers.4.attn.compressor.norm.weight", "layers.3.attn.attn_sink", "layers.5.attn.q_norm.weight",
             "layers.0.attn.kv_norm.weight")  # fmt: skip
WORDS = ["<bos>", "<eos>", "<pad>"] + [
    spelt for word in ("the", "cat", "dög", "runs", "apple") for spelt in (word, word.upper(), f" {word}", f"{word}\t")
]


def tokenizer_json() -> str:
    """A tokenizer of 96 words, of which several read the same."""
    from tokenizers import Tokenizer, models

    words = WORDS + [f"w{number}" for number in range(TEXT["vocab_size"] - len(WORDS))]
    vocabulary = {word: number for number, word in enumerate(words)}
    return Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>")).to_str()


def weights(shapes: dict[str, list[int]], seed: int, *, pictures: bool = False) -> dict[str, torch.Tensor]:
    """Weights by released name, away from every start; unless `pictures`, what routes image tokens is what routes
    text."""
    found = {}
    for name in sorted(shapes):
        source = name if pictures else name.replace(".bias_vl", ".bias")
        noise = np.random.default_rng([seed, *source.encode()]).standard_normal(shapes[name])
        if name.endswith(("norm.weight", "q_weight", "k_weight")):
            noise = 1 + 0.3 * noise
        elif len(shapes[name]) < 2:
            noise = 0.3 * noise
        elif "embed" not in name:
            noise = noise * shapes[name][-1] ** -0.5
        found[name] = torch.from_numpy(noise.astype(np.float32))
    return found


def inputs(length: int = 37) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids [2, length] and which of them stand for pictures."""
    ids = np.random.default_rng(5).integers(3, TEXT["vocab_size"], size=(2, length))
    pictures = np.zeros((2, length), dtype=bool)
    pictures[1, 11:15] = True
    pictures[1, 20] = True
    return torch.from_numpy(ids), torch.from_numpy(pictures)


def kept(name: str = "") -> tuple[dict[str, Any], dict[str, list[int]], dict[int, torch.Tensor]]:
    """The text configuration, names and shapes, and logits by seed."""
    from safetensors import safe_open

    with safe_open(KEPT[name], framework="pt") as file:
        about = file.metadata()
    logits = {int(key): tensor for key, tensor in load_file(KEPT[name]).items() if key.isdecimal()}
    return json.loads(about["text_config"]), json.loads(about["shapes"]), logits


def gradients(name: str) -> dict[str, torch.Tensor]:
    """What is kept of the gradients of seed 0, by released name."""
    return {key: tensor for key, tensor in load_file(KEPT[name]).items() if not key.isdecimal()}


def main(name: str) -> None:
    """Compute with NeMo and write a file."""
    from nemo_automodel.components.models.common import BackendConfig
    from nemo_automodel.components.models.deepseek_v41 import config as configs
    from nemo_automodel.components.models.deepseek_v41.engram import _compressed_token_map
    from nemo_automodel.components.models.deepseek_v41.model import DeepseekV41ForCausalLM
    from nemo_automodel.components.models.deepseek_v41.state_dict_adapter import _native_key
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from dsv4.ops.hashing import prime_sizes

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(tokenizer_json()))
    given = TEXTS[name]
    layers = given["engram_layer_ids"]
    sizes = prime_sizes(layers, [given["engram_vocab_size"]] * 3, given["engram_n_heads"])
    text = {**given, "engram_num_embeddings": [sum(map(sum, sizes[layer])) for layer in layers],
            "engram_compressed_vocab_size": _compressed_token_map(tokenizer)[1]}  # fmt: skip
    vision = configs.DeepseekV41VisionConfig(num_hidden_layers=0)
    config = configs.DeepseekV41Config(
        text_config=configs.DeepseekV41TextConfig(**text, dtype="float32"), vision_config=vision, dtype="float32"
    )
    backend = BackendConfig(attn="eager", linear="torch", rms_norm="torch_fp32", experts="torch", dispatcher="torch")
    model = DeepseekV41ForCausalLM(config, backend=backend, tokenizer=tokenizer).eval()
    state = model.state_dict()
    names = model.state_dict_adapter.get_hf_state_dict_keys(state)
    shapes = {name: _shape(name, state, _native_key) for name in names}
    ids, pictures = inputs(61 if name else 37)
    found = {}
    for seed in (0, 1):
        _fill(state, weights(shapes, seed, pictures=bool(name)), _native_key)
        hidden, _ = model.model(ids, image_mask=pictures)
        logits = model.lm_head(hidden).float().contiguous()
        found[str(seed)] = logits.detach()
        if name == "_six" and seed == 0:
            torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten()).backward()
            for wanted in GRADIENTS:
                grown = dict(model.named_parameters())[_native_key(wanted)].grad
                found[wanted] = grown.clone()
    save_file(found, KEPT[name], metadata={"text_config": json.dumps(text), "shapes": json.dumps(shapes)})


def _place(name: str, state: dict[str, torch.Tensor], native: Any) -> torch.Tensor:
    """Where a released tensor lies in the model's own, which stack experts and transpose them."""
    own = native(name)
    if own in state:
        return state[own]
    before, expert, part = own.rsplit(".", 3)[0], int(own.rsplit(".", 3)[1]), own.rsplit(".", 3)[2]
    if part == "down_proj":
        return state[f"{before}.down_projs"][expert].T
    both = state[f"{before}.gate_and_up_projs"][expert]
    half = both.shape[-1] // 2
    return (both[:, :half] if part == "gate_proj" else both[:, half:]).T


def _shape(name: str, state: dict[str, torch.Tensor], native: Any) -> list[int]:
    return list(_place(name, state, native).shape)


@torch.no_grad()
def _fill(state: dict[str, torch.Tensor], given: dict[str, torch.Tensor], native: Any) -> None:
    for name, tensor in given.items():
        _place(name, state, native).copy_(tensor)


if __name__ == "__main__":
    for one in sys.argv[1:]:
        main(one)
