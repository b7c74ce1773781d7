"""Pages of a PDF as pictures, drawn one at a time in a limited child process, so that memory does not grow with pages.

Source: pdfium, through pypdfium2. Files of any origin are parsed, hence the child: what hangs or crashes ends there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from PIL.Image import Image

DPI = 144  # two pixels a point: A4 becomes 1191 x 1684
MOST_SIDE = 4096  # pixels of a page's longer side, whatever size it claims
MOST_PAGES = 5000
SECONDS = 20.0  # for opening the file, and for each page


class PdfFile:
    """An open PDF: `count` pages, each drawn when it is asked for. Close it, or use it in a `with`.

    Raises ValueError for what is no PDF, is encrypted, or has more than 5,000 pages.
    """

    def __init__(self, path: str | os.PathLike[str], *, dpi: int = DPI, seconds: float = SECONDS) -> None:
        self.path, self.dpi, self.seconds = Path(path), dpi, seconds
        if not self.path.is_file():
            raise ValueError(f"there is no file '{path}'")
        self._child: subprocess.Popen[bytes] | None = None
        self.count = self._start()
        if self.count > MOST_PAGES:
            self.close()
            raise ValueError(f"'{path}' has {self.count:,} pages; at most {MOST_PAGES:,} are read")

    def page(self, number: int) -> Image:
        """Page `number`, from 1, as an RGB picture on white.

        Raises ValueError for a page that is not there, cannot be drawn, or takes too long; other pages can still be
        asked for.
        """
        if not 1 <= number <= self.count:
            raise ValueError(f"'{self.path}' has {self.count} pages; there is no page {number}")
        from PIL import Image as pil

        if self._child is None or self._child.poll() is not None:
            self._start()
        width, height, pixels = self._asked(number)
        return pil.frombytes("RGB", (width, height), pixels)

    def pages(self, wanted: Sequence[int] = ()) -> Iterator[tuple[int, Image]]:
        """(number, picture) of the wanted pages, all without any, one at a time."""
        for number in wanted or range(1, self.count + 1):
            yield number, self.page(number)

    def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe is not None:
                    pipe.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> int:
        try:
            import pypdfium2
        except ModuleNotFoundError as error:
            raise ValueError("reading a PDF needs one more package: pip install pypdfium2") from error
        self.close()
        program = Path(__file__).with_name("_pdf_child.py")
        home = str(Path(pypdfium2.__file__).parents[1])
        settings = [str(self.path.resolve()), str(self.dpi), str(MOST_SIDE), str(int(self.seconds) + 1), home]
        self._child = subprocess.Popen(
            [sys.executable, "-I", str(program), *settings],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LANG": "C.UTF-8"},
        )
        try:
            (count,) = self._answer(0)
        except ValueError:
            self.close()
            raise
        return count

    def _asked(self, number: int) -> tuple[int, int, bytes]:
        child: Any = self._child
        try:
            child.stdin.write(f"{number}\n".encode())
            child.stdin.flush()
        except OSError as error:
            self.close()
            raise ValueError(f"page {number} of '{self.path}' cannot be drawn: its program ended") from error
        width, height = self._answer(number)
        pixels = self._within(lambda: child.stdout.read(width * height * 3), number)
        if len(pixels) < width * height * 3:
            raise self._ended(number)
        return width, height, pixels

    def _answer(self, number: int) -> tuple[int, ...]:
        child: Any = self._child
        line = self._within(child.stdout.readline, number)
        kind, _, rest = line.decode(errors="replace").strip().partition(" ")
        if kind == "NO":
            what = f"page {number} of '{self.path}' cannot be drawn" if number else f"'{self.path}' cannot be read"
            raise ValueError(f"{what}: {rest}")
        if kind != "OK":
            raise self._ended(number)
        return tuple(int(word) for word in rest.split())

    def _within(self, read: Any, number: int) -> bytes:
        """What `read` gives; the child is ended when that takes too long, and the answer is then cut short."""
        child: Any = self._child
        watch = threading.Timer(self.seconds, child.kill)
        watch.daemon = True
        watch.start()
        try:
            return read()
        finally:
            watch.cancel()

    def _ended(self, number: int) -> ValueError:
        self.close()
        what = f"page {number} of '{self.path}'" if number else f"'{self.path}'"
        return ValueError(f"{what} cannot be drawn: it needs more than {self.seconds:g} seconds or too much memory")
