"""A file without its bodies: heads and short fields stay, and so do whole symbols that a question asks for."""

from __future__ import annotations

from collections.abc import Sequence

from dsv4.repository.facts import Facts, Symbol

NOTE = "[bodies left out]"


def skeleton(text: str, facts: Facts, whole: Sequence[Symbol] = ()) -> str:
    """The kept lines in order, `...` where some are missing; '' when the file has no symbols."""
    if not facts.symbols:
        return ""
    lines = text.split("\n")
    kept: set[int] = set()
    for symbol in facts.symbols:
        kept.update(range(symbol.first, symbol.head + 1))
    for symbol in whole:
        kept.update(range(symbol.first, symbol.last + 1))
        # A method is read with the head of its class.
        kept.update(
            line
            for outer in facts.symbols
            if outer.first <= symbol.first and outer.last >= symbol.last
            for line in range(outer.first, outer.head + 1)
        )
    out = [NOTE]
    for number, line in enumerate(lines, 1):
        if number in kept:
            out.append(line)
        elif line.strip() and out[-1].strip() != "...":
            out.append(line[: len(line) - len(line.lstrip())] + "...")
    return "\n".join(out) + "\n"
