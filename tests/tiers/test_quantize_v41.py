"""DeepSeek-V4.1's leading layers quantised under the release's names, and read back."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from dsv4.checkpoint.pretrained import load_core
from dsv4.core.memory import row_form
from dsv4.errors import InputError
from dsv4.tiers.run import Passage, quantize
from tests.core import nemo_v41

TEXT, SHAPES, LOGITS = nemo_v41.kept()


def logits_of(core):
    ids, pictures = nemo_v41.inputs()
    with torch.no_grad():
        return core(ids, memory_ids_BT=ids.masked_fill(pictures, -1)).logits_BTV


@pytest.mark.parametrize("method", ["round", "gptq"])
def test_a_folder_with_memory_in_fp8_rows(method, tmp_path):
    given = tmp_path / "given"
    given.mkdir()
    tensors = nemo_v41.weights(SHAPES, 0)
    for name in [name for name in tensors if name.endswith("engram.embed.weight")]:
        form = row_form(tensors[name].shape[-1])
        tensors[name], tensors[name.replace(".weight", ".scale")] = form.part(form.pack(tensors[name]))
    save_file(tensors, given / "model.safetensors")
    (given / "config.json").write_text(
        json.dumps({"model_type": "deepseek_v41", "text_config": TEXT, "vision_config": {}})
    )
    (given / "tokenizer.json").write_text(nemo_v41.tokenizer_json())
    ids = nemo_v41.inputs()[0]
    passages = [Passage(token_ids_T=row) for row in ids]
    report = quantize(given, tmp_path / "out", tier="q8", method=method, passages=passages)
    assert max(report.errors.values()) < 1e-3 and any("engram.both" in name for name in report.errors)
    expected, found = logits_of(load_core(given)), logits_of(load_core(tmp_path / "out"))
    # A random router may tip for a token, so not the largest difference but the usual one tells.
    assert (found - expected).abs().mean() < 0.05 * expected.abs().mean()
    assert (found.argmax(-1) == expected.argmax(-1)).float().mean() > 0.9
    packed = logits_of(load_core(tmp_path / "out", packed=True))
    # Entries are rounded to FP8's grid, where the last bit of a sum may tip a code over.
    assert (packed - found).abs().mean() < 0.02 * expected.abs().mean()


def test_layers_that_share_entries_are_refused_by_name(tmp_path):
    text, shapes, _ = nemo_v41.kept("_six")
    save_file(nemo_v41.weights(shapes, 0), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "deepseek_v41", "text_config": text}))
    (tmp_path / "tokenizer.json").write_text(nemo_v41.tokenizer_json())
    passages = [Passage(token_ids_T=row) for row in nemo_v41.inputs()[0]]
    with pytest.raises(InputError, match="from layer 2 on .*--layers 2"):
        quantize(tmp_path, tmp_path / "out", tier="q8", method="round", passages=passages)
