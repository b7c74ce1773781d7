"""`python -m app.measure FILE`: how large the pictures in a PDF or a clip are, found out in a process of its own.

A hostile file can only end this process. Prints JSON: a list of [width, height] in pixels, of what the model would see.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from dsv4.limits import DOCUMENT_PAGES, VIDEO_FRAMES

PDF_SCALE = 2  # pixels a point, as the model is shown pages


def sizes(path: Path) -> list[tuple[int, int]]:
    """(width, height) of each page, or of each frame that is looked at; raises what the libraries raise."""
    if path.suffix.lower() == ".pdf":
        import pypdfium2

        with pypdfium2.PdfDocument(path) as pdf:
            points = [pdf.get_page_size(page) for page in range(min(len(pdf), DOCUMENT_PAGES))]
        return [(round(width * PDF_SCALE), round(height * PDF_SCALE)) for width, height in points]
    import av

    with av.open(str(path), metadata_errors="replace") as clip:
        context = clip.streams.video[0].codec_context
        return [(context.width, context.height)] * VIDEO_FRAMES


if __name__ == "__main__":
    print(json.dumps(sizes(Path(sys.argv[1]))))
