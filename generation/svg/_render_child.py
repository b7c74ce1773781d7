"""The guarded child: limits itself, reads rebuilt SVGs, writes PNGs, each behind its length.

Source: linebender/resvg issue 762 (input, memory and time are for the operating system to limit).
"""

from __future__ import annotations

import re
import sys
from types import ModuleType

MEMORY_BYTES = 1 << 30
SECONDS = 8


def limit() -> None:
    """Bound memory, time, files and processes where the system knows how."""
    try:
        import resource
    except ImportError:
        return
    limits = {"RLIMIT_AS": MEMORY_BYTES, "RLIMIT_CPU": SECONDS, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))


def main() -> int:
    """Draw the documents of standard input, a NUL between them, with its longer side at the given number of pixels."""
    # The parent's place of the renderer, because isolated mode ignores the parent's search path.
    sys.path.append(sys.argv[2])
    import resvg_py

    limit()
    size = int(sys.argv[1])
    for svg in sys.stdin.buffer.read().decode().split("\0"):
        try:
            png = draw(resvg_py, svg, size)
        except ValueError as error:
            print(error, file=sys.stderr)
            return 1
        sys.stdout.buffer.write(len(png).to_bytes(4, "big") + png)
    return 0


def draw(resvg_py: ModuleType, svg: str, size: int) -> bytes:
    """One drawing as PNG."""
    box = re.search(r'viewBox="([^"]*)"', svg[:2000])
    numbers = [float(number) for number in re.findall(r"[-+.\deE]+", box[1])] if box else []
    tall = len(numbers) == 4 and numbers[3] > numbers[2]
    side = {"height": size} if tall else {"width": size}
    return bytes(resvg_py.svg_to_bytes(svg_string=svg, sans_serif_family="DejaVu Sans", **side))


if __name__ == "__main__":
    sys.exit(main())
