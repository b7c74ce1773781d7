"""Files made to do harm are refused at once, in one line, and cost little memory."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import pytest
from PIL import Image

MEASURE = """
import json, sys, time
import numpy, PIL.Image, PIL.ImageOps, PIL.ImageCms
from dsv4 import InputError, document, image, video
from dsv4.pictures_in import open_pages, open_pictures
import generation.svg, vision.frames, av, defusedxml.ElementTree
PIL.Image.init()
make = {"image": image, "document": document, "video": video}

def memory(key):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(key))

for kind, path in json.load(sys.stdin):
    open("/proc/self/clear_refs", "w").write("5")
    before, started = memory("VmRSS"), time.process_time()
    try:
        open_pictures([make[kind](path)])
        says = ""
    except InputError as error:
        says = str(error)
    print(json.dumps([path, says, time.process_time() - started, (memory("VmHWM") - before) / 1024]))
"""


def png(width: int, height: int, data: bytes, *, extra: bytes = b"") -> bytes:
    """A PNG of RGB that claims a size and holds what it is given."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", data)


def animation() -> bytes:
    """A GIF of 5,000 tiny frames."""
    buffer = io.BytesIO()
    frames = [Image.new("L", (1, 1), 255 * (n % 2)) for n in range(5000)]
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:])
    return buffer.getvalue()


def jpeg_that_claims(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    content = bytearray(buffer.getvalue())
    place = content.index(b"\xff\xc0")
    content[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(content)


def laughs() -> bytes:
    entities = "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    svg = '<svg xmlns="http://www.w3.org/2000/svg"><text>&a9;</text></svg>'
    return f'<!DOCTYPE svg [<!ENTITY a0 "ha">{entities}]>{svg}'.encode()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory) -> dict[str, tuple[str, float, float]]:
    """For every hostile file what was said, the processor's seconds and the growth of memory in MiB."""
    folder = tmp_path_factory.mktemp("hostile")
    ring = b"II*\x00\x08\x00\x00\x00" + struct.pack("<HI", 0, 8)
    files = {
        "claims.png": ("image", png(10_000, 10_000, b"")),
        "unfolds.png": ("image", png(60_000, 60_000, zlib.compress(b"\0" * 10_000_000, 9))),
        "hollow.png": ("image", png(7_900, 7_900, zlib.compress(b"\0" * 1_000, 9))),
        "claims.jpg": ("image", jpeg_that_claims(65_000, 65_000)),
        "ring.tiff": ("document", ring),
        "animation.gif": ("document", animation()),
        "laughs.svg": ("image", laughs()),
        "deep.svg": ("image", b"<svg xmlns='http://www.w3.org/2000/svg'>" + b"<g>" * 5000 + b"</g>" * 5000 + b"</svg>"),
        "large.svg": ("image", b"<svg>" + b" " * 5_000_000 + b"</svg>"),
        "junk.pdf": ("document", b"%PDF-1.7\n" + b"1 0 obj << /Kids [1 0 R] /Count 999999999 >> endobj\n" * 2000),
        "junk.mp4": ("video", b"\0\0\0\x18ftypmp42" + b"\xff" * 100_000),
        "zeros.webp": ("image", b"RIFF\xff\xff\xff\xffWEBPVP8L" + b"\xff" * 64),
    }
    asked = []
    for name, (kind, content) in files.items():
        (folder / name).write_bytes(content)
        asked.append((kind, str(folder / name)))
    run = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert run.returncode == 0, run.stderr
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(rows) == len(files)
    return {Path(path).name: (says, seconds, grown) for path, says, seconds, grown in rows}


@pytest.mark.skipif(sys.platform != "linux", reason="reads memory from /proc")
def test_every_hostile_file_is_refused_at_once_and_cheaply(outcomes):
    wrong = {
        name: found
        for name, found in outcomes.items()
        if not found[0] or "\n" in found[0] or name not in found[0] or found[1] > 1.0 or found[2] > 50
    }
    assert not wrong
