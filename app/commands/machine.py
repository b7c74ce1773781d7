"""`dsv4 doctor`, `models` and `config show`: what is here."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import socket
import sys
import tempfile
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from dsv4._parts import asset

from ..settings import DEFAULTS, resolve

NEEDED = ("torch", "torchvision", "numpy", "safetensors", "tokenizers", "timm", "open_clip_torch", "diffusers")
NEEDED += ("transformers", "pillow", "gradio", "fastapi", "uvicorn", "av", "resvg-py", "defusedxml", "zstandard")
NEEDED += ("pypdfium2",)
EXTRAS = {"parquet": "pyarrow", "ray": "ray"}  # an extra of ours and the package that it brings
# What each kind of device cannot do here; every other part is plain torch. Only cpu and cuda have been run by us.
LACKS = {
    "cpu": "FlexAttention and Triton kernels (plain torch instead); training is slow",
    "cuda": "compute from packed weights as they lie (they are opened for each product)",
    "mps": "float64 and float8 numbers, pinned host memory, Triton kernels, packed weights; not run by us",
    "xpu": "CUDA graphs in training, FlexAttention as used here, packed weights; not run by us",
    "npu": "Triton kernels, FlexAttention, packed weights, and nothing without torch_npu; not run by us",
}
LEAST_FREE = 500e6  # bytes of disk that results need at least


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One thing that was looked at."""

    what: str
    fine: bool
    says: str


def doctor(args: argparse.Namespace) -> int:
    """Look at Python, packages, devices, encoder, weights, disk and port; status 1 if something is missing."""
    findings = [_python(), _packages(), _extras(), *_devices(), _encoder(), _weights(), _disk(), _port()]
    if args.json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for one in findings:
            if not (args.quiet and one.fine):
                print(f"{'ok ' if one.fine else 'BAD'}  {one.what:<9} {one.says}")
    return 0 if all(one.fine for one in findings) else 1


def models(args: argparse.Namespace) -> int:
    """List what `--model` takes."""
    folder = asset("nano")
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    table = [
        {"name": "nano", "here": size > 0, "bytes": size, "about": "trained by this project, made for two CPU cores"},
        {"name": "echo", "here": True, "bytes": 0, "about": "no model: repeats the request, for tests"},
    ]
    if args.json:
        print(json.dumps(table))
    else:
        for row in table:
            here = f"{row['bytes'] / 1e6:.1f} MB" if row["here"] else "not here"
            print(f"{row['name']:<6} {here:<10} {row['about']}")
        print("A folder written by `dsv4 export` can be named in place of these.")
    return 0


def config(args: argparse.Namespace) -> int:
    """Print each setting with its origin."""
    found = [resolve(name) for name in DEFAULTS]
    if args.json:
        print(json.dumps({one.name: {"value": one.value, "origin": one.origin} for one in found}))
    else:
        for one in found:
            print(f"{one.name:<8} {one.value!s:<40} {one.origin}")
    return 0


def _python() -> Finding:
    says = f"{platform.python_version()} on {platform.system()} {platform.machine()}, {os.cpu_count()} cores"
    return Finding(what="python", fine=sys.version_info >= (3, 11), says=says)


def _packages() -> Finding:
    missing = []
    for name in NEEDED:
        try:
            version(name)
        except PackageNotFoundError:
            missing.append(name)
    if missing:
        return Finding(what="packages", fine=False, says=f"missing: {', '.join(missing)}")
    return Finding(what="packages", fine=True, says=f"all {len(NEEDED)} here, torch {version('torch')}")


def _extras() -> Finding:
    here = {name: find_spec(package) is not None for name, package in EXTRAS.items()}
    says = ", ".join(name if found else f"{name} not here (dsv4-studio[{name}])" for name, found in here.items())
    return Finding(what="extras", fine=True, says=says)


def _disk() -> Finding:
    try:
        free = shutil.disk_usage(Path.cwd()).free
        with tempfile.TemporaryFile():
            pass
    except OSError as error:
        return Finding(what="disk", fine=False, says=f"temporary files cannot be written: {error}")
    return Finding(what="disk", fine=free > LEAST_FREE, says=f"{free / 1e9:.1f} GB free in {Path.cwd()}")


def _port() -> Finding:
    host, port = resolve("host").value, resolve("port").value
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as tried:
            tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tried.bind(address)
    except OSError as error:
        reason = error.strerror or str(error)
        return Finding(what="port", fine=False, says=f"{host}:{port} cannot be used: {reason}; see --port")
    return Finding(what="port", fine=True, says=f"{host}:{port} is free")


def _devices() -> list[Finding]:
    """The device that is used here, and what the kinds that are not here could not do."""
    try:
        import torch
    except ImportError as error:
        return [Finding(what="devices", fine=False, says=f"torch does not load: {error}")]
    here = torch.accelerator.current_accelerator(check_available=True)
    kind = "cpu" if here is None else here.type
    says = f"cpu with {torch.get_num_threads()} threads"
    if here is not None:
        says += f", {torch.accelerator.device_count()} x {kind}"
    lacks = LACKS.get(kind, "not known to us: tests have run on cpu and cuda")
    others = ". ".join(f"{name} cannot: {words}" for name, words in LACKS.items() if name != kind)
    return [Finding(what="devices", fine=True, says=f"{says}; {kind} cannot: {lacks}"),
            Finding(what="elsewhere", fine=True, says=others)]  # fmt: skip


def _encoder() -> Finding:
    try:
        import av

        av.Codec("libx264", "w")
    except (ImportError, ValueError) as error:
        return Finding(what="video", fine=False, says=f"no H.264 encoder: {error}")
    return Finding(what="video", fine=True, says=f"libx264 through av {av.__version__}")


def _weights() -> Finding:
    folder = asset("nano")
    shards = sorted(folder.glob("*.safetensors"))
    if not shards:
        return Finding(what="weights", fine=False, says=f"no weights of nano in {folder}")
    size = sum(shard.stat().st_size for shard in shards) / 1e6
    return Finding(what="weights", fine=True, says=f"nano, {size:.1f} MB in {len(shards)} files")
