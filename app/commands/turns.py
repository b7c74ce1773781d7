"""`dsv4 chat --turns FILE`: a whole conversation from a file, printed and written down as it went."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dsv4 import limits, spelling
from dsv4.errors import InputError
from dsv4.messages import Message
from dsv4.results import SUFFIXES, credited

TRANSCRIPT = "transcript.md"
SEEN = {"svg": ".png", "video": ".gif"}  # what a transcript shows: black lines on a dark page would not be seen
WIDTH = 128  # at which it shows what was made, in pixels


def read_turns(path: str) -> list[str]:
    """The lines of a file that are not blank: questions, and headings behind `# `; InputError where there are none."""
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read '{path}': {error}") from error
    found = [line if line.startswith("# ") else limits.check_prompt(line) for line in lines if line.strip()]
    limits.check_count("questions", [line for line in found if not line.startswith("# ")], limits.HISTORY_MESSAGES // 2)
    return found


def hold(studio: Any, lines: list[str], *, folder: Path | None, say: Callable[[str], None], **settings: Any) -> None:
    """Ask every question in turn, the answers before it told; what is made and a transcript go to `folder`.

    Headings are not asked. `say` gets every turn as it comes; `settings` are those of `Studio.chat`.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    written = []
    for text in _turns(studio, lines, folder, settings):
        say(text)
        written.append(text)
        if folder is not None:
            (folder / TRANSCRIPT).write_text("\n".join(written) + "\n", encoding="utf-8")


def _turns(studio: Any, lines: list[str], folder: Path | None, settings: dict[str, Any]) -> Iterator[str]:
    history: list[Message] = []
    for line in lines:
        if line.startswith("# "):
            yield f"{'' if not history else chr(10)}**{line.removeprefix('# ').strip()}**\n"
            continue
        reply = studio.chat(line, history=tuple(history), **settings).reply
        history += [Message.said("user", line), Message.said("assistant", reply.text or "...")]
        number = len(history) // 2
        told = f"{number}. **{line}**\n   {reply.text}"
        if note := spelling.told(reply.corrected, reply.untaught):
            told += f"\n   ({note})"
        if reply.call is not None and folder is not None:
            told += f"\n   {_made(studio, reply, folder, number, settings.get('seed', 0))}"
        yield told


def _made(studio: Any, reply: Any, folder: Path, number: int, seed: int) -> str:
    """Do what a reply asks the hands for; the line that shows it and leads to the file."""
    try:
        made = credited(studio.perform(reply.call, seed=seed), reply)
    except InputError as error:
        return f"-> {error}"
    path = made.save(folder / f"{number:02}{SUFFIXES[reply.call.kind][0]}")
    suffix = SEEN.get(reply.call.kind)
    seen = made.save(path.with_suffix(suffix)) if suffix else path
    return f'<br>[<img src="{seen.name}" width="{WIDTH}" alt="{html.escape(reply.call.text)}">]({path.name})'
