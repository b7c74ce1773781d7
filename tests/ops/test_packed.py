"""Products from packed words: what opening them gives, with the compiled loops and without."""

from __future__ import annotations

import os
import stat
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from dsv4.ops import native
from dsv4.ops.linear import linear
from dsv4.ops.packed import PackedLinear, PackedMatrix, joined
from dsv4.quant.grid import Grid, open_packed, pack_words, round_to


def packed(rows, columns, bits, group, *, dtype=torch.bfloat16, seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight_NK = torch.randn(rows, columns, generator=generator)
    codes, scales = round_to(weight_NK, Grid(bits=bits, group=group, dtype=dtype))
    return PackedMatrix(pack_words(codes, bits), scales.to(dtype), columns)


SHAPES = [(4, 128, 128), (12, 256, 128), (8, 384, 64), (6, 256, 128), (8, 96, 32), (4, 448, 64), (4, 304, 16),
          (8, 512, 256), (4, 192, 96), (5, 48, 16), (3, 20, 10)]  # fmt: skip


@pytest.mark.parametrize("native_too", [True, False])
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("shape", SHAPES)
def test_opening_and_products_are_those_of_the_reference(shape, bits, native_too, monkeypatch):
    if not native_too:
        monkeypatch.setattr(native, "library", lambda: None)
    rows, columns, group = shape
    for dtype in (torch.bfloat16, torch.float32):
        one = packed(rows, columns, bits, group, dtype=dtype)
        expected = open_packed(one.words_NX, one.scales_NG, (rows, columns))
        assert torch.equal(one.open(), expected)
        assert torch.equal(one.open(torch.bfloat16), expected.bfloat16())
        for count in (1, 3, 9):
            x = torch.randn(1, count, columns, generator=torch.Generator().manual_seed(count))
            assert torch.allclose(linear(x, one), F.linear(x, expected), rtol=1e-4, atol=1e-4 * columns**0.5)
            near = F.linear(x.bfloat16().float(), expected)
            assert (one.times(x.bfloat16()).float() - near).abs().max() <= 0.02 * near.abs().max()


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [16, 64, 128])
def test_what_is_no_number_stays_so_and_zeros_and_peaks_are_exact(bits, group):
    one = packed(8, 256, bits, group, dtype=torch.float32)
    assert torch.equal(one.times(torch.zeros(1, 256)), torch.zeros(1, 8))
    peak = torch.full((1, 256), 1e-6)
    peak[0, 77] = 1000.0
    assert torch.allclose(one.times(peak), F.linear(peak, one.open()), rtol=1e-5)
    peak[0, 3] = float("nan")
    assert one.times(peak).isnan().all()


def test_the_loops_are_compiled_here_and_all_threads_give_the_same():
    assert native.library() is not None, "a compiler is there, so the loops must be"
    one, x = packed(1024, 1024, 4, 128), torch.randn(2, 1024)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = one.times(x)
        torch.set_num_threads(2)
        assert torch.equal(one.times(x), alone)
    finally:
        torch.set_num_threads(before)


def test_the_cache_folder_must_be_ones_own(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert stat.S_IMODE(native._folder().stat().st_mode) == 0o700
    (tmp_path / "dsv4").chmod(0o777)
    with pytest.raises(PermissionError, match="by others"):
        native._folder()


def test_without_a_compiler_or_when_told_to_torch_does_it(tmp_path):
    code = "from dsv4.ops import native; print(native.library())"
    for change in ({"DSV4_NATIVE": "0"}, {"PATH": str(tmp_path)}):
        run = subprocess.run([sys.executable, "-c", code], env={**os.environ, **change}, capture_output=True, text=True)
        assert run.stdout.strip() == "None", run.stderr


def test_rows_parts_and_joins_are_the_same_numbers():
    one, other = packed(8, 128, 4, 64), packed(4, 128, 4, 64, seed=1)
    upper, lower = one.halves()
    assert torch.equal(torch.cat((upper.open(), lower.open())), one.open())
    both = joined([one, other])
    assert torch.equal(both.open(), torch.cat((one.open(), other.open()))) and both.nbytes == one.nbytes + other.nbytes
    x = torch.randn(2, 128)
    assert torch.allclose(PackedLinear(both)(x), F.linear(x, both.open()), atol=1e-4)
    with pytest.raises(ValueError, match="different columns or bits"):
        joined([one, packed(8, 128, 8, 64)])


@pytest.mark.parametrize(
    ("words", "scales", "columns", "says"),
    [((4, 16), (4, 2), 100, "cannot hold 100 codes"), ((4, 16), (3, 1), 128, "do not fit 4 rows"),
     ((4, 16), (4, 3), 128, "do not fit")],
)  # fmt: skip
def test_what_does_not_agree_is_refused(words, scales, columns, says):
    with pytest.raises(ValueError, match=says):
        PackedMatrix(torch.zeros(words, dtype=torch.int32), torch.ones(scales), columns)
