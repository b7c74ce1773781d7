"""Put what a command wrote into a document, unedited, between two marks that name it.

Run as `python -m dsv4.eval.into_doc docs/nano.md turns docs/turns/transcript.md`: what stands between
`<!-- turns:begin -->` and `<!-- turns:end -->` is replaced. Links to files beside what is put in are kept whole.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

from dsv4.errors import InputError, unknown

_BEGIN = re.compile(r"<!-- ([\w-]+):begin.*?-->\n", flags=re.S)
_LINK = re.compile(r"""(\]\(|\b(?:src|href)=")(?![a-z]+:|[/#])([^)"\s]+)""")


def put(document: str, name: str, text: str) -> str:
    """The document with `text` between the marks of `name`; InputError when it has no such marks."""
    begins = {found[1]: found for found in _BEGIN.finditer(document)}
    if name not in begins:
        raise unknown("place in the document", name, begins) if begins else InputError(_advice(name))
    start = begins[name].end()
    stop = document.find(f"<!-- {name}:end -->", start)
    if stop < 0:
        raise InputError(_advice(name))
    return f"{document[:start]}{text.strip(chr(10))}\n{document[stop:]}"


def relinked(text: str, *, at: Path, to: Path) -> str:
    """Text that lay in folder `at`, with links to files there as they are told from folder `to`."""
    way = os.path.relpath(at, to).replace(os.sep, "/")
    return _LINK.sub(lambda found: f"{found[1]}{os.path.normpath(f'{way}/{found[2]}')}".replace(os.sep, "/"), text)


def _advice(name: str) -> str:
    return f"the document needs a line <!-- {name}:begin --> and, below it, a line <!-- {name}:end -->"


def main(argv: list[str] | None = None) -> int:
    """Put a file into a document; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.into_doc", description=__doc__)
    parser.add_argument("document", type=Path)
    parser.add_argument("name", help="of the marks, as in <!-- NAME:begin -->")
    parser.add_argument("file", type=Path, help="what is put in")
    args = parser.parse_args(argv)
    text = relinked(args.file.read_text(encoding="utf-8"), at=args.file.parent, to=args.document.parent)
    args.document.write_text(put(args.document.read_text(encoding="utf-8"), args.name, text), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
