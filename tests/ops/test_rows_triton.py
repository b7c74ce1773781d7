"""The kernels of FP8 rows in the interpreter give the reference's bits: packed, opened, and gathered from a slice."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import torch

from dsv4.ops import rows_triton
from dsv4.ops.fp8 import RowFormat

INTERPRETED = """
import torch
from dsv4.ops import fp8, rows_triton
torch.manual_seed(0)
forms = [fp8.RowFormat.latent(256, 16), fp8.RowFormat.shared(80, 16), fp8.RowFormat.shared(100, 20)]
forms += [fp8.RowFormat(plain=40, rotated=0, tile=32, wide_scales=False)]
def plainly(call):
    rows_triton.AVAILABLE = False
    found = call()
    rows_triton.AVAILABLE = True
    return found
for form in forms:
    width = form.plain + form.rotated
    for dtype in (torch.bfloat16, torch.float32):
        x = torch.randn(2, 9, width) * 10 ** torch.empty(2, 9, 1).uniform_(-6, 4)
        x[0, 0, : form.tile] = torch.linspace(-448, 448, form.tile) * 2**-9  # small codes and halves between them
        x[0, 1], x[0, 3], x[0, 4] = 0.0, 1.75, 1.7578125
        x[0, 2, ::2] = -0.0
        x = x.to(dtype)
        packed = form.pack(x)
        assert torch.equal(packed, plainly(lambda: form.pack(x))), (form, dtype)
        for kept in (packed, packed[:, :7]):
            found, wanted = form.unpack(kept, dtype), plainly(lambda: form.unpack(kept, dtype))
            assert found.shape == wanted.shape and torch.equal(found, wanted), (form, dtype)
            places = torch.randint(0, 7, (2, 3, 5))
            found = form.gather(kept, places, dtype)
            assert torch.equal(found, plainly(lambda: form.gather(kept, places, dtype)))
        assert torch.equal(form.unpack(packed[0], dtype), plainly(lambda: form.unpack(packed[0], dtype)))
form = fp8.RowFormat(plain=256, rotated=0, tile=128, wide_scales=False)
codes = torch.arange(256, dtype=torch.uint8)
codes[127], codes[255] = 0, 0  # no numbers
every = torch.cat((codes, torch.tensor([127, 120, 0, 0, 0, 0, 0, 0], dtype=torch.uint8)))[None]
x = form.unpack(every, torch.float32)
assert torch.equal(x, plainly(lambda: form.unpack(every, torch.float32)))
assert torch.equal(form.pack(x), plainly(lambda: form.pack(x)))
assert form.pack(torch.zeros(2, 0, 256)).shape == (2, 0, 264)
print("equal")
"""


def test_kernels_in_the_interpreter() -> None:
    if importlib.util.find_spec("triton") is None:  # not built for every platform; the reference is used there
        assert not rows_triton.AVAILABLE
        return
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", INTERPRETED], env=environment, capture_output=True, text=True)
    assert done.stdout.strip() == "equal", done.stderr[-3000:]


def test_a_scale_is_the_least_power_of_two_that_keeps_codes_finite() -> None:
    form = RowFormat(plain=4, rotated=0, tile=4, wide_scales=False)
    for exponent in (-9, 0, 3):
        most = 448.0 * 2.0**exponent
        above = float(torch.nextafter(torch.tensor(most), torch.tensor(torch.inf)))
        for value, wanted in ((most, exponent), (above, exponent + 1)):
            packed = form.pack(torch.tensor([[[value, 0.0, -value, value / 3]]]))
            assert int(packed[0, 0, 4]) - 127 == wanted, (value, exponent)
