"""`dsv4 export --to hf`: transformers loads it with our logits, packed weights stay packed, refusals say why."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from app.cli import build_parser, main
from dsv4.checkpoint.export import launch_lines
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


def test_the_compose_file_holds_together_and_its_studio_stays_on_this_machine():
    folder = Path(__file__).parents[2] / "deploy"
    given = yaml.safe_load((folder / "compose.yaml").read_text())
    studio, engine = given["services"]["studio"], given["services"]["engine"]
    assert all(port.startswith("127.0.0.1:") for port in studio["ports"])
    assert studio["environment"]["DSV4_MODEL"] == "http://engine:8000/v1" and "DSV4_PASSWORD" in studio["environment"]
    for service in (studio, engine):  # what is used is declared: networks, volumes, services, files
        assert set(service["networks"]) <= set(given["networks"])
        kept = [volume.split(":")[0] for volume in service["volumes"] if not volume.startswith("${")]
        assert set(kept) <= set(given["volumes"])
    assert set(studio["depends_on"]) <= set(given["services"]) and "healthcheck" in engine
    dockerfile = folder / studio["build"]["context"] / studio["build"]["dockerfile"]
    assert dockerfile.is_file() and dockerfile.read_text().rstrip().endswith('ENTRYPOINT ["/venv/bin/dsv4"]')

    command = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in studio["command"]]
    args = build_parser().parse_args(command)  # the line that the container runs, by our own command line
    assert args.action == "server:run" and args.host == "0.0.0.0" and args.home == "/home-of-studio"
    assert studio["ports"][0].endswith(f":{args.port}") and f"studio:{args.home}" in studio["volumes"]


def test_the_compose_file_starts_the_engine_with_the_flags_that_export_prints():
    lines = " ".join(launch_lines("deepseek_v3", Path("lite-hf")))
    compose = yaml.safe_load((Path(__file__).parents[2] / "deploy" / "compose.yaml").read_text())
    flags = re.findall(r"--[a-z-]+", compose["services"]["engine"]["command"])
    assert {flag for flag in flags if flag != "--model"} <= set(re.findall(r"--[a-z-]+", lines))
