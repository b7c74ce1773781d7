"""The limited child: opens one PDF, then draws the page whose number comes in on every line of standard input.

It answers `OK pages` at the start, then for every page `OK width height` and the RGB bytes, or `NO reason`.
"""

from __future__ import annotations

import sys

MEMORY_BYTES = 1 << 30


def limit(seconds: int) -> None:
    """Bound memory and files, and the processor's time until the next call, where the system knows how."""
    try:
        import resource
    except ImportError:
        return
    for name, value in (("RLIMIT_AS", MEMORY_BYTES), ("RLIMIT_FSIZE", 0), ("RLIMIT_CORE", 0)):
        resource.setrlimit(getattr(resource, name), (value, value))
    spent = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(spent.ru_utime + spent.ru_stime) + seconds + 1, hard))


def answer(line: str, pixels: bytes = b"") -> None:
    """One line, then the pixels that belong to it."""
    sys.stdout.buffer.write(f"{' '.join(line.split())}\n".encode())
    sys.stdout.buffer.write(pixels)
    sys.stdout.buffer.flush()


def drawn(document, number: int, dpi: int, side: int) -> tuple[int, int, bytes]:
    """Width, height and RGB bytes of a page, at `dpi` or as much less as keeps it within `side` pixels."""
    page = document[number - 1]
    longer = max(*page.get_size(), 1.0)
    bitmap = page.render(scale=min(dpi / 72, side / longer), rev_byteorder=True)
    width, height, stride = bitmap.width, bitmap.height, bitmap.stride
    rows = memoryview(bitmap.buffer).cast("B")
    channels = bitmap.n_channels
    if channels == 3:
        pixels = b"".join(bytes(rows[row * stride : row * stride + 3 * width]) for row in range(height))
    else:
        lines = (bytes(rows[row * stride : row * stride + channels * width]) for row in range(height))
        pixels = b"".join(_three(line, channels, width) for line in lines)
    bitmap.close()
    page.close()
    return width, height, pixels


def _three(line: bytes, channels: int, width: int) -> bytes:
    out = bytearray(3 * width)
    for colour in range(3):
        out[colour::3] = line[min(colour, channels - 1) :: channels]
    return bytes(out)


def main() -> int:
    """Serve until standard input ends."""
    path, dpi, side, seconds, home = sys.argv[1:6]
    sys.path.append(home)  # the parent's place of the library, because isolated mode ignores its search path
    import pypdfium2

    limit(int(seconds))
    try:
        document = pypdfium2.PdfDocument(path)
    except (pypdfium2.PdfiumError, OSError) as error:
        secret = "password" in str(error).lower()
        answer("NO it is encrypted; remove its password first" if secret else f"NO it is not a PDF ({error})")
        return 1
    answer(f"OK {len(document)}")
    for line in sys.stdin:
        limit(int(seconds))
        try:
            width, height, pixels = drawn(document, int(line), int(dpi), int(side))
        except (pypdfium2.PdfiumError, MemoryError, ValueError, OSError) as error:
            answer(f"NO {error or type(error).__name__}")
        else:
            answer(f"OK {width} {height}", pixels)
    return 0


if __name__ == "__main__":
    sys.exit(main())
