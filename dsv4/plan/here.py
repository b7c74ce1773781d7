"""This machine as a `Machine`: sizes asked of the system, speeds measured in about two seconds.

Host memory is read as one product of a vector with a matrix larger than the caches, the disk by reading back a file
that was just written and dropped from the page cache, the device by the same product there.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from dsv4.plan.hardware import Machine, Memory

PROBE = 256 << 20  # bytes read to time host memory and disk
WATTS = 45.0  # assumed: no portable way to ask


def here(folder: str | Path = ".") -> Machine:
    """Look at this machine; `folder` says which disk."""
    import torch

    dram = Memory(gb=_memory_bytes() / 1e9, gb_s=_read_speed("cpu"))
    disk = Memory(gb=shutil.disk_usage(folder).free / 1e9, gb_s=_disk_speed(Path(folder)))
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None:
        return Machine(name="this machine", dram=dram, disk=disk, watts=WATTS)
    count = torch.accelerator.device_count()
    free = sum(torch.accelerator.get_memory_info(index)[0] for index in range(count)) if found.type != "mps" else 0
    unified = found.type == "mps"
    device = Memory(gb=(free or _memory_bytes()) / 1e9, gb_s=count * _read_speed(found.type))
    return Machine(
        name="this machine", device=device, dram=Memory() if unified else dram, disk=disk, count=count,
        kind=found.type, unified=unified, watts=WATTS,
    )  # fmt: skip


def _memory_bytes() -> int:
    """What is free now where the system tells, else all of it; a container's limit counts."""
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        fields = dict(line.split(":", 1) for line in meminfo.read_text().splitlines())
        free = int(fields["MemAvailable"].split()[0]) * 1024
        limit = Path("/sys/fs/cgroup/memory.max")
        if limit.is_file() and (text := limit.read_text().strip()).isdigit():
            free = min(free, int(text))
        return free
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 8 << 30


def _read_speed(kind: str) -> float:
    """GB/s of reading weights once, as decoding does."""
    import torch

    matrix_NK = torch.ones(PROBE // (4 * 4096), 4096, device=kind)
    x_K = torch.ones(4096, device=kind)

    def read() -> None:
        y_N = matrix_NK @ x_K
        y_N[0].item()  # waits for the device

    return PROBE / 1e9 / _best(read)


def _disk_speed(folder: Path) -> float:
    """GB/s of reading a cold file; the page cache is asked to forget it, where the system knows how."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".dsv4-plan-") as file:
        block = os.urandom(1 << 20)
        for _ in range(PROBE >> 20):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())

        def read() -> None:
            if hasattr(os, "posix_fadvise"):
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            with open(file.name, "rb", buffering=0) as again:
                while again.read(8 << 20):
                    pass

        return PROBE / 1e9 / _best(read, times=2)


def _best(work: Callable[[], None], times: int = 4) -> float:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        took.append(time.perf_counter() - started)
    return min(took)
