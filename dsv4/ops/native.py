"""A few loops in C, compiled once on the machine that runs them; without a compiler torch does the same, slower.

The library lies in the user's cache folder under a name that follows from its source, compiler flags and processor, and
is used only after it has multiplied rightly. DSV4_NATIVE=0 leaves it out. Shape letters: M vectors, N rows, K columns.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

SOURCES = tuple(Path(__file__).with_name(name) for name in ("loops.h", "rows.c", "reading.c", "codes.c", "token.c"))
COMMON = ("-O3", "-std=gnu11", "-ffp-contract=fast", "-shared", "-fPIC")
# From what is quickest to what every compiler takes.
ATTEMPTS = (
    ("-march=native", "-mprefer-vector-width=512", "-fopenmp"),
    ("-march=native", "-fopenmp"),
    ("-march=native",),
    ("-mcpu=native",),
)
WIDE = "dsv4_attend"  # is there where vectors have 512 bits
SECONDS = 60  # that compiling may take
ALONE_BELOW = 1 << 20  # numbers of a matrix that are not worth a second thread
E4M3_FORMS = {torch.float16: 0, torch.bfloat16: 1, torch.float32: 2}
ROW_BITS = {torch.bfloat16: 16, torch.float32: 32}
FORMS = {torch.bfloat16: 1, torch.float32: 0}


@cache
def library() -> ctypes.CDLL | None:
    """The compiled loops, or None where there are none."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if os.environ.get("DSV4_NATIVE") == "0" or compiler is None or os.name != "posix":
        return None
    for flags in ATTEMPTS:
        try:
            found = _declared(ctypes.CDLL(str(_compiled(compiler, flags))))
        except (OSError, subprocess.SubprocessError, AttributeError):
            continue
        if _is_right(found):
            return found
    return None


@cache
def wide_library() -> ctypes.CDLL | None:
    """The same where vectors have 512 bits: elsewhere torch's own product of one bfloat16 row is as quick, and so is
    what it reads of a cache."""
    lib = library()
    return lib if lib is not None and hasattr(lib, WIDE) else None


def times(
    x_MK: Tensor, data: Tensor, scales_NG: Tensor | None, *, bits: int, rows: int, group: int, lib: ctypes.CDLL
) -> Tensor:
    """x (float32) · rowsᵀ: float32 [M, N]. data: words of packed rows, or bfloat16 (bits 16), or float32 (32)."""
    x_MK = x_MK.contiguous()
    count, columns = x_MK.shape
    y_MN = torch.empty(count, rows)
    threads = torch.get_num_threads() if rows * columns >= ALONE_BELOW else 1
    scales = data if scales_NG is None else scales_NG
    wrong = lib.dsv4_times(
        bits, y_MN.data_ptr(), data.data_ptr(), scales.data_ptr(), FORMS.get(scales.dtype, 0), x_MK.data_ptr(),
        count, rows, columns, group, threads,
    )  # fmt: skip
    if wrong:
        raise MemoryError("no memory for a vector")
    return y_MN


def opened(words_NX: Tensor, scales_NG: Tensor, out_NK: Tensor, *, bits: int, lib: ctypes.CDLL) -> None:
    """Write packed rows as numbers, float32 or bfloat16."""
    rows, columns = out_NK.shape
    threads = torch.get_num_threads() if rows * columns >= ALONE_BELOW else 1
    lib.dsv4_open(
        bits, out_NK.data_ptr(), FORMS[out_NK.dtype], words_NX.data_ptr(), scales_NG.data_ptr(),
        FORMS[scales_NG.dtype], rows, columns, columns // scales_NG.shape[1], threads,
    )  # fmt: skip


def opened_e4m3(codes: Tensor, out: Tensor, *, lib: ctypes.CDLL) -> None:
    """Write e4m3 codes (uint8) as numbers, float16, bfloat16 or float32, of the same shape; both contiguous."""
    lib.dsv4_open_e4m3(out.data_ptr(), codes.data_ptr(), codes.numel(), E4M3_FORMS[out.dtype])


def takes(bits: int, rows: int, columns: int, group: int) -> bool:
    """Whether the product's loops are made for rows of this shape."""
    stretch, word = 512 // bits, 32 // bits
    if bits >= 16:
        return columns % word == 0 and group == columns
    return rows % 4 == 0 and columns % group == 0 and (group % stretch == 0 or (stretch % group == 0 and group >= word))


def _compiled(compiler: str, flags: tuple[str, ...]) -> Path:
    about = (compiler, *COMMON, *flags, platform.machine(), _processor())
    told = (*(source.read_bytes() for source in SOURCES), *map(str.encode, about))
    name = f"loops-{hashlib.sha256(b'|'.join(told)).hexdigest()[:20]}.so"
    folder = _folder()
    path = folder / name
    if not path.is_file():
        with tempfile.TemporaryDirectory(dir=folder) as beside:
            made = Path(beside) / name
            subprocess.run(
                [compiler, *COMMON, *flags, *map(str, SOURCES[1:]), "-lm", "-o", str(made)],
                check=True, capture_output=True, timeout=SECONDS,
            )  # fmt: skip
            os.replace(made, path)
    return path


def _folder() -> Path:
    """A folder that nobody else may write to: what lies there is run."""
    root = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(root).expanduser() / "dsv4"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    about = folder.stat()
    if about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise PermissionError(f"{folder} can be written to by others")
    return folder


def _processor() -> str:
    """What the processor can do, where the system tells: a home may be shared by several machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.lower().startswith(("flags", "features"))), "")


def _declared(lib: ctypes.CDLL) -> ctypes.CDLL:
    number, long, pointer = ctypes.c_int, ctypes.c_int64, ctypes.c_void_p
    lib.dsv4_times.argtypes = [number, pointer, pointer, pointer, number, pointer, long, long, long, long, number]
    lib.dsv4_times.restype = number
    lib.dsv4_open.argtypes = [number, pointer, number, pointer, pointer, number, long, long, long, number]
    lib.dsv4_open.restype = None
    lib.dsv4_open_e4m3.argtypes = [pointer, pointer, long, number]
    lib.dsv4_open_e4m3.restype = None
    if not hasattr(lib, WIDE):
        return lib
    real = ctypes.c_float
    lib.dsv4_attend.argtypes = [*[pointer] * 3, number, long, pointer, *[long] * 4, real, pointer]
    lib.dsv4_attend.restype = number
    lib.dsv4_choose.argtypes = [*[pointer] * 5, number, long, pointer, *[long] * 4]
    lib.dsv4_choose.restype = number
    lib.dsv4_norm.argtypes = [*[pointer] * 3, long, real]
    lib.dsv4_norm.restype = None
    lib.dsv4_lanes_read.argtypes = [pointer] * 5
    lib.dsv4_lanes_read.restype = number
    lib.dsv4_lanes_write.argtypes = [*[pointer] * 4, long, long]
    lib.dsv4_lanes_write.restype = None
    lib.dsv4_attention_into.argtypes = [*[pointer] * 11, number]
    lib.dsv4_attention_into.restype = number
    lib.dsv4_attention_out.argtypes = [*[pointer] * 5, number]
    lib.dsv4_attention_out.restype = number
    lib.dsv4_experts.argtypes = [*[pointer] * 6, number]
    lib.dsv4_experts.restype = number
    return lib


def _is_right(lib: ctypes.CDLL) -> bool:
    """Whether every loop gives what torch gives on a small matrix."""
    generator = torch.Generator().manual_seed(0)
    x_MK = torch.randn(2, 256, generator=generator)
    rows_NK = torch.randn(8, 256, generator=generator).bfloat16()
    expected_MN = x_MK @ rows_NK.float().T
    near = []
    for bits, form in ((16, torch.bfloat16), (32, torch.float32)):
        found_MN = times(x_MK, rows_NK.to(form), None, bits=bits, rows=8, group=256, lib=lib)
        near.append(torch.allclose(found_MN, expected_MN, atol=1e-4))
    for bits in (8, 4):
        words_NX = torch.randint(-(2**31), 2**31, (8, 256 * bits // 32), generator=generator).int()
        scales_NG = torch.rand(8, 2, generator=generator).bfloat16()
        numbers_NK = torch.empty(8, 256)
        opened(words_NX, scales_NG, numbers_NK, bits=bits, lib=lib)
        shifted = (words_NX.long()[..., None] & 0xFFFFFFFF) >> (bits * torch.arange(32 // bits))
        codes_NK = (shifted & (2**bits - 1)).flatten(1) - 2 ** (bits - 1)
        expected_NK = codes_NK * scales_NG.float().repeat_interleave(128, 1)
        product_MN = times(x_MK, words_NX, scales_NG, bits=bits, rows=8, group=128, lib=lib)
        near += [torch.equal(numbers_NK, expected_NK), torch.allclose(product_MN, x_MK @ expected_NK.T, rtol=1e-4,
                                                                      atol=1e-2)]  # fmt: skip
    return all(near)
