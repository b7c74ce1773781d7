"""A working colour profile of a press whose inks are unlike any other's, made from nothing but the format's rules.

Source: ICC.1:2001-04, sections 6.1 (header and tags), 6.5.7 (lut8Type), 6.3.4.2 (Lab in eight bits).
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

# What a full ink prints as, in CIE Lab: cyan comes out orange and yellow blue, as no plain arithmetic would say.
INKS: Mapping[str, tuple[int, int, int]] = {"C": (65, 45, 70), "M": (55, -60, 50), "Y": (35, 30, -80), "K": (0, 0, 0)}
PAPER = (100, 0, 0)
D50 = (0.9642, 1.0, 0.8249)


def cmyk_profile() -> bytes:
    """An output profile CMYK to Lab with two points an ink; several inks together print as the darkest mean."""
    tags = {
        b"desc": _description("odd press"),
        b"cprt": b"text" + bytes(4) + b"none\0",
        b"wtpt": _white(),
        b"A2B0": _table(),
    }
    body, entries, offset = b"", b"", 128 + 4 + 12 * len(tags)
    for name, data in tags.items():
        padded = data + bytes(-len(data) % 4)
        entries += struct.pack(">4sII", name, offset + len(body), len(data))
        body += padded
    size = offset + len(body)
    header = struct.pack(
        ">I4sI4s4s4s12x4s4s28x", size, b"none", 0x02100000, b"prtr", b"CMYK", b"Lab ", b"acsp", b"none"
    )
    header = header[:68] + b"".join(struct.pack(">i", round(value * 65536)) for value in D50) + bytes(48)
    return header + struct.pack(">I", len(tags)) + entries + body


def _fixed(*values: float) -> bytes:
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)


def _white() -> bytes:
    return b"XYZ " + bytes(4) + _fixed(*D50)


def _description(text: str) -> bytes:
    ascii_text = text.encode() + b"\0"
    return b"desc" + bytes(4) + struct.pack(">I", len(ascii_text)) + ascii_text + bytes(4 + 4 + 2 + 1 + 67)


def _table() -> bytes:
    """`mft1`: straight curves around a table of 2 x 2 x 2 x 2 mixtures, the last ink fastest."""
    straight = bytes(range(256))
    points = b"".join(
        _lab8(*_printed([ink for ink, on in zip("CMYK", bits, strict=True) if on]))
        for bits in ((c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1))
    )
    head = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + _fixed(1, 0, 0, 0, 1, 0, 0, 0, 1)
    return head + straight * 4 + points + straight * 3


def _printed(inks: list[str]) -> tuple[float, float, float]:
    if not inks:
        return PAPER
    if "K" in inks:
        return INKS["K"]
    lightness, a, b = (sum(INKS[ink][part] for ink in inks) / len(inks) for part in range(3))
    return lightness / len(inks), a, b


def _lab8(lightness: float, a: float, b: float) -> bytes:
    return bytes([round(lightness * 255 / 100), round(a) + 128, round(b) + 128])
