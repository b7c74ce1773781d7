"""The line that starts what was planned, for the engine that can run it."""

from __future__ import annotations

from dsv4.plan.hardware import Machine
from dsv4.plan.models import Sizes
from dsv4.plan.place import Placement

GGUF = ("q8_0", "q4_k_m", "q4-experts", "iq2_kl", "q2-experts")


def launch_line(model: Sizes, tier: str, context: int, machine: Machine, placed: Placement) -> str:
    """A command, or a sentence when there is none."""
    if not placed.fits:
        return "none: it does not fit"
    if model.ours:
        return _ours(model, tier, placed)
    experts = placed.part("experts").where
    inside = set(experts) == {"device"}
    if tier in GGUF or machine.unified or not machine.count:
        flags = f" -c {context}" + ("" if inside or not machine.count else " -ngl 99 --cpu-moe")
        return f"llama-server -m {model.name}-{tier}.gguf{flags}"
    if not inside:
        resident = int(model.count * experts.get("device", 0.0) / placed.part("experts").gb)
        return (
            f"python -m sglang.launch_server --model-path {model.repo} --context-length {context} "
            f"--kt-weight-path FOLDER --kt-num-gpu-experts {resident} --kt-cpuinfer CORES   # ktransformers' SGLang"
        )
    return (
        f"vllm serve {model.repo} --tensor-parallel-size {machine.count} --max-model-len {context} "
        f"--kv-cache-dtype {'auto' if tier == 'bf16' else 'fp8'} --enable-prefix-caching"
    )


def _ours(model: Sizes, tier: str, placed: Placement) -> str:
    if model.name == "nano":
        return "dsv4 app --model nano"
    spread = {where for one in placed.components for where in one.where}
    note = "" if len(spread) == 1 else "   # spread over several memories: needs expert placement"
    if model.name in ("micro", "small", "lite", "flagship"):
        note += f"   # {model.name} has no released weights: train them, then quantise to {tier}"
    return f"dsv4 app --model FOLDER{note}"
