"""`dsv4 export --to hf`: a folder that vLLM and SGLang serve, and the lines that start them.

Engines are separate processes, never imported. Source of flags: vLLM's recipes and SGLang's documentation for the
DeepSeek families, October 2026; not run by us.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dsv4.checkpoint.pretrained import Folder, convert
from dsv4.errors import InputError

BESIDE = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "generation_config.json",
          "chat_template.jinja")  # fmt: skip
VLLM = {
    "deepseek_v2": "", "deepseek_v3": "", "deepseek_v32": " --kv-cache-dtype fp8",
    "deepseek_v4": " --kv-cache-dtype fp8 --block-size 256 --tokenizer-mode deepseek_v4 "
                   "--tool-call-parser deepseek_v4 --reasoning-parser deepseek_v4",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written, and how to serve it."""

    kind: str
    bytes: int
    lines: tuple[str, ...]
    tokenizer: bool


def export_hf(folder: Path, out: Path) -> Exported:
    """Write a checkpoint in the names of its released family, with what lies beside the weights.

    Packed weights stay packed. InputError for a configuration that no released family has.
    """
    if (folder / "model.json").is_file():
        raise InputError(
            f"{folder} is a model with parts of our own (Engram, lanes, eyes, hands) that no engine knows; "
            "`dsv4 serve` serves it"
        )
    given = Folder(folder)
    if given.kind == "dsv4":
        raise InputError(
            f"{folder}: no released family has this configuration (normed embeddings, Engram, free lanes or mixed "
            "reach), so no engine knows it; `dsv4 serve` is for models of ours"
        )
    if out.resolve() == folder.resolve():
        raise InputError("a checkpoint cannot be exported in place; name another folder")
    if given.shards.packed:
        out.mkdir(parents=True, exist_ok=True)
        files = [path for path in folder.iterdir() if path.suffix in (".safetensors", ".json")]
        for path in files:
            shutil.copyfile(path, out / path.name)
        written = sum(path.stat().st_size for path in files if path.suffix == ".safetensors")
    else:
        written = convert(folder, out, to=given.kind)
    for name in BESIDE:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, out / name)
    there = (out / "tokenizer.json").is_file()
    return Exported(kind=given.kind, bytes=written, lines=launch_lines(given.kind, out), tokenizer=there)


def launch_lines(kind: str, out: Path, *, devices: int = 8) -> tuple[str, ...]:
    """A line for vLLM, one for SGLang, and our studio in front of either."""
    name = out.resolve().name
    trust = " --skip-tokenizer-init" if not (out / "tokenizer.json").is_file() else ""
    return (
        f"vllm serve {out} --served-model-name {name} --tensor-parallel-size {devices} --enable-expert-parallel "
        f"--enable-prefix-caching{VLLM[kind]}{trust} --port 8000",
        f"python -m sglang.launch_server --model-path {out} --served-model-name {name} --tp {devices}{trust} "
        "--port 8000",
        "dsv4 app --model http://127.0.0.1:8000/v1",
    )
