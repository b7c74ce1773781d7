"""The Triton kernels of sparse reading in the interpreter: operators alone, and a whole core that takes them."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import torch

from dsv4.ops import sparse_triton

INTERPRETED = """
import torch
from dsv4.ops import attend, gather, select, sparse_triton
torch.manual_seed(0)
taken = []
for name in ("attend_places", "scores"):
    one = getattr(sparse_triton, name)
    setattr(sparse_triton, name, lambda *a, one=one, name=name, **k: (taken.append(name), one(*a, **k))[1])
wide, short = (torch.float32, 2e-5), (torch.bfloat16, 2e-2)
cases = [(6, 40, None, True, 70, wide), (3, 24, 16, False, 70, wide), (20, 40, None, True, 300, wide)]
cases += [(3, 24, 16, False, 300, wide), (20, 40, 24, True, 300, short)]  # 300 chosen are cut into parts
for heads, size, value, sink, chosen, (dtype, most) in cases:
    q, entries = torch.randn(2, 3, heads, size).to(dtype), torch.randn(2, 400, size).to(dtype)
    places = torch.stack([torch.randperm(400)[:chosen] for _ in range(6)]).view(2, 3, chosen)
    real = torch.rand(2, 3, chosen) < 0.8
    real[..., 0] = True
    real[0, 0, 1:] = False
    s = torch.randn(heads) if sink else None
    rows = gather.gather_rows(entries, places)
    expected = attend.attend_chosen(q, rows, s, real, scale=0.2, value=value)
    found = sparse_triton.attend_places(q, entries, places, real, s, scale=0.2, value=value)
    assert (found - expected).abs().max() < most, (heads, chosen, dtype, (found - expected).abs().max())
for queries, heads, dtype, most in ((3, 4, *wide), (1, 20, *wide), (7, 32, *wide), (5, 4, *short)):
    q, w, k = torch.randn(2, queries, heads, 20), torch.randn(2, queries, heads), torch.randn(2, 300, 20)
    q, w, k = q.to(dtype), w.to(dtype), k[:, :131].to(dtype)
    expected = select.index_scores(q, w, k)
    with torch.no_grad():
        found = select.index_scores(q, w, k)
    assert taken[-1] == "scores" and (found - expected).abs().max() < most, (queries, heads, dtype)
    for made, scored in ((select.eight_bits, select.index_scores_int8), (select.e4m3, select.index_scores_fp8)):
        codes, scales = made(k)
        sparse_triton.AVAILABLE = False
        expected = scored(q.float(), w.float(), codes, scales[..., 0])
        sparse_triton.AVAILABLE = True
        taken.clear()
        with torch.no_grad():
            found = scored(q, w, codes, scales[..., 0])
        assert taken == ["scores"] and (found - expected).abs().max() < 2e-5, (queries, heads, dtype)
from dsv4.core import presets
from dsv4.core.model import LanguageCore
core = LanguageCore.from_config(presets.micro()).eval()
core.steps_quickly = False
ids = torch.randint(0, 256, (1, 24))
def decoded():
    cache, parts = core.new_cache(1, 24), []
    with torch.no_grad():
        for piece in ids.split((20, 1, 1, 1, 1), 1):
            parts.append(core(piece, cache=cache).logits_BTV)
    return torch.cat(parts, 1)
taken.clear()
fast = decoded()
assert taken.count("attend_places") == 4 and "scores" in taken, taken
sparse_triton.AVAILABLE = False
plain = decoded()
assert (fast - plain).abs().max() < 2e-5 * plain.abs().max(), (fast - plain).abs().max()
print("equal")
"""


def test_kernels_in_the_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:  # not built for every platform; the vector forms are used there
        assert not sparse_triton.AVAILABLE
        return
    environment = os.environ | {"TRITON_INTERPRET": "1", "DSV4_NATIVE": "0", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "equal", done.stderr[-2000:]


def test_no_processor_takes_them() -> None:
    assert not sparse_triton.AVAILABLE or torch.cuda.is_available()
