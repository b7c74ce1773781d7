"""`dsv4 export --to hf`: transformers loads it with our logits, packed weights stay packed, refusals say why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from app.cli import main
from dsv4.checkpoint.pretrained import load_core
from dsv4.core import presets
from dsv4.core.config import CoreConfig, ExpertsConfig, LanesConfig, LatentConfig
from dsv4.core.model import LanguageCore
from dsv4.tiers.run import Passage, quantize

V3 = CoreConfig(
    vocab_size=64, hidden=64, reach=("full",) * 2, tied=False, embed_norm=False, lanes=LanesConfig(count=1),
    attention=LatentConfig(heads=2, latent=32, plain=16, rotated=16, value=16, q_rank=32),
    experts=ExpertsConfig(count=4, chosen=2, inner=32, shared_inner=64, dense_inner=64, dense=(0,), score="sigmoid",
                          scale=2.5, groups=2, groups_chosen=1),
)  # fmt: skip
IDS = torch.arange(24)[None]


def saved(config, folder: Path) -> LanguageCore:
    torch.manual_seed(0)
    core = LanguageCore.from_config(config).eval()
    core.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    return core


@pytest.mark.parametrize("score", ["sigmoid", "softmax"])
def test_transformers_reads_an_export(score, tmp_path, capsys):
    experts = replace(V3.experts, score=score, normalised=score == "sigmoid", groups=1)
    core = saved(replace(V3, experts=experts), tmp_path / "plain")
    out = tmp_path / "model-hf"
    assert main(["export", "--to", "hf", "--model", str(tmp_path / "plain"), "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert f"vllm serve {out} --served-model-name model-hf" in said and "sglang.launch_server" in said
    assert "dsv4 app --model http://127.0.0.1:8000/v1" in said and (out / "tokenizer.json").is_file()
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32).eval()(IDS).logits
        ours = core(IDS).logits_BTV
    assert (theirs - ours).abs().max() < 2e-5 * ours.abs().max()


def test_packed_weights_stay_packed(tmp_path):
    saved(V3, tmp_path / "plain")
    passages = [Passage(token_ids_T=torch.arange(48))]
    quantize(tmp_path / "plain", tmp_path / "q4", tier="q4", method="round", passages=passages)
    given = ["export", "--to", "hf", "--model", str(tmp_path / "q4"), "--out", str(tmp_path / "hf")]
    assert main(given) == 0
    with torch.no_grad():
        one, other = (load_core(tmp_path / name)(IDS).logits_BTV for name in ("q4", "hf"))
    assert torch.equal(one, other)
    size = sum(path.stat().st_size for path in (tmp_path / "hf").glob("*.safetensors"))
    assert size < sum(path.stat().st_size for path in (tmp_path / "plain").glob("*.safetensors")) / 2


def test_what_no_engine_knows_is_refused(tmp_path, capsys):
    saved(presets.micro(64), tmp_path / "ours")
    for model, layout, words in (
        (tmp_path / "ours", "hf", "no released family"),
        ("assets/nano", "hf", "`dsv4 serve` serves it"),
        (tmp_path / "ours", "gguf", "unknown layout 'gguf'"),
        (tmp_path / "none", "hf", "no folder"),
    ):
        assert main(["export", "--to", layout, "--model", str(model), "--out", str(tmp_path / "out")]) == 2
        assert words in capsys.readouterr().err
    assert main(["export", "--out", str(tmp_path / "out")]) == 2
    assert "--run is needed" in capsys.readouterr().err


def test_the_compose_file_is_read_and_its_studio_stays_on_this_machine():
    given = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text())
    studio = given["services"]["studio"]
    assert all(port.startswith("127.0.0.1:") for port in studio["ports"])
    assert studio["environment"]["DSV4_MODEL"].endswith("/v1") and "DSV4_PASSWORD" in studio["environment"]
