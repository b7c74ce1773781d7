"""A plan of edits across files: read from what a chat model wrote, tried in memory, shown as one patch, then applied.

A plan is JSON: {"why": "...", "edits": [{"path": "a.py", "old": "...", "new": "..."}, {"path": "b.py", "create":
"..."}, {"path": "c.py", "delete": true}]}. `old` must stand exactly once in the file.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dsv4.errors import InputError, nearest
from dsv4.repository.graph import Graph, graph_of
from dsv4.repository.walk import LANGUAGES, File

KINDS = ({"path", "old", "new"}, {"path", "create"}, {"path", "delete"})
MOST_EDITS = 500
ASK = """Plan an edit of the repository above. The task: {task}

Answer with one JSON object and nothing else:
{{"why": "one sentence", "edits": [...]}}
Each edit is one of
{{"path": "a.py", "old": "lines that stand exactly once in the file", "new": "what replaces them"}}
{{"path": "b.py", "create": "the whole new file"}}
{{"path": "c.py", "delete": true}}
Copy `old` to the letter from files that are shown whole. Paths are those of the repository.
"""


@dataclass(frozen=True, kw_only=True)
class Edit:
    """What a plan would do: `after` holds new texts by path (None: deleted), `breaks` imports that it would break."""

    why: str
    before: Mapping[str, str]
    after: Mapping[str, str | None]
    breaks: tuple[tuple[str, int, str], ...]

    @property
    def patch(self) -> str:
        """One unified diff of all files, as `git apply` reads it."""
        out: list[str] = []
        for path in sorted(self.after):
            old, new = self.before.get(path), self.after[path]
            ends = f"a/{path}" if old is not None else "/dev/null", f"b/{path}" if new is not None else "/dev/null"
            for line in difflib.unified_diff(_lines(old), _lines(new), *ends):
                out.append(line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n")
        return "".join(out)


def _lines(text: str | None) -> list[str]:
    # Not splitlines: a form feed inside a line is no end of it.
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text or "")


def read_plan(said: str) -> dict[str, Any]:
    """The plan in a model's answer, with or without a fence or words around it; InputError when there is none."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"\{", said):
        try:
            plan, _ = decoder.raw_decode(said, found.start())
        except ValueError:
            continue
        if isinstance(plan, dict) and isinstance(plan.get("edits"), list):
            return plan
    raise InputError(f'the answer holds no plan, which is JSON with "edits"; it begins: {said.strip()[:200]!r}')


def try_plan(graph: Graph, plan: Mapping[str, Any]) -> Edit:
    """Work out a plan in memory; InputError names the first edit that cannot be made, and why."""
    edits = plan["edits"]
    if not edits or len(edits) > MOST_EDITS:
        raise InputError(f"a plan has from 1 to {MOST_EDITS} edits, this one has {len(edits)}")
    texts: dict[str, str | None] = {path: file.text for path, file in graph.files.items()}
    touched: dict[str, None] = {}
    for number, edit in enumerate(edits, 1):
        path = _checked(edit, number)
        _one(graph, texts, edit, path, number)
        touched[path] = None
    before = {path: graph.files[path].text for path in touched if path in graph.files}
    after = {path: texts[path] for path in touched if texts[path] != before.get(path)}
    if not after:
        raise InputError("the plan changes nothing")
    files = {
        path: graph.files[path] if path in graph.files and graph.files[path].text == text else _file(path, text)
        for path, text in texts.items()
        if text is not None
    }
    edited = graph_of(files, name=graph.name)
    known = {(path, why) for path, _, why in graph.broken()}
    breaks = [one for one in edited.broken() if (one[0], one[2]) not in known]
    said = {(path, line) for path, line, _ in breaks}
    breaks += [one for one in _lost(graph, edited) if one[:2] not in said]
    breaks += [(path, 0, why) for path, why in _unparsed(files, graph)]
    return Edit(why=str(plan.get("why", "")), before=before, after=after, breaks=tuple(sorted(breaks)))


def _lost(graph: Graph, edited: Graph) -> Iterator[tuple[str, int, str]]:
    """Imports, of any language, that meant a file of the repository before and mean none now."""
    for path, facts in edited.facts.items():
        if path not in graph.facts:
            continue
        language = edited.files[path].language
        held = {(one.module, one.level, one.names) for one in graph.facts[path].imports}
        for one in facts.imports:
            if (one.module, one.level, one.names) in held and not any(edited.resolver.targets(path, language, one)):
                meant = next(graph.resolver.targets(path, language, one), None)
                if meant is not None and meant.path not in edited.files:
                    yield path, one.line, f"what it imports is gone: {meant.path}"


def _unparsed(files: Mapping[str, File], graph: Graph) -> Iterator[tuple[str, str]]:
    from dsv4.repository.facts import python_facts

    for path, file in files.items():
        same = path in graph.files and graph.files[path].text == file.text
        if file.language == "python" and not same and (trouble := python_facts(file.text).trouble):
            yield path, trouble


def _file(path: str, text: str) -> File:
    return File(path=path, text=text, language=LANGUAGES.get(PurePosixPath(path).suffix.lower(), ""))


def _checked(edit: Any, number: int) -> str:
    if not isinstance(edit, Mapping) or set(edit) not in KINDS:
        keys = sorted(edit) if isinstance(edit, Mapping) else type(edit).__name__
        raise InputError(f"edit {number} has {keys}; an edit has path with old and new, or create, or delete")
    path = edit["path"]
    wrong = not isinstance(path, str) or not path or "\\" in path or "\0" in path
    parts = PurePosixPath(path).parts if not wrong else ()
    if wrong or path.startswith("/") or ".." in parts or ".git" in parts or str(PurePosixPath(path)) != path:
        raise InputError(f"edit {number}: {path!r} is not a path inside the repository")
    if any(not isinstance(edit[key], str) for key in ("old", "new", "create") if key in edit):
        raise InputError(f"edit {number}: old, new and create are text")
    if "delete" in edit and edit["delete"] is not True:
        raise InputError(f"edit {number}: delete is true or not there")
    return path


def _one(graph: Graph, texts: dict[str, str | None], edit: Mapping[str, Any], path: str, number: int) -> None:
    text = texts.get(path)
    if "create" in edit:
        noted = {note.path for note in graph.notes}
        if text is not None or path in noted:
            raise InputError(f"edit {number}: '{path}' is there already")
        texts[path] = edit["create"]
        return
    if text is None:
        near = nearest(path, [known for known, held in texts.items() if held is not None])
        hint = f"; did you mean '{near}'?" if near else ""
        raise InputError(f"edit {number}: there is no file '{path}' that can be edited{hint}")
    if "delete" in edit:
        texts[path] = None
        return
    times = text.count(edit["old"]) if edit["old"] else 0
    if times != 1:
        raise InputError(f"edit {number}: `old` stands {times} times in '{path}', it must stand once")
    texts[path] = text.replace(edit["old"], edit["new"])


def apply(edit: Edit, root: str | os.PathLike[str]) -> list[str]:
    """Write all files or none; gives back the changed paths.

    Raises InputError when a file is not what the plan was tried on; undoes what was written when the disk refuses.
    """
    top = Path(root).resolve()
    old: dict[str, bytes | None] = {}
    for path in sorted(edit.after):
        target = top / path
        if not target.parent.resolve().is_relative_to(top) or target.is_symlink():
            raise InputError(f"'{path}' leads out of the repository through a link")
        old[path] = target.read_bytes() if target.is_file() else None
        expected = edit.before.get(path)
        held = old[path]
        if (held is None) != (expected is None) or (held is not None and held != (expected or "").encode()):
            raise InputError(
                f"'{path}' has changed since it was read, or is not plain UTF-8 with LF ends; nothing is written"
            )
    done: list[str] = []
    try:
        for path in old:
            done.append(path)
            text = edit.after[path]
            _write(top / path, None if text is None else text.encode())
    except OSError:
        for path in done:
            with contextlib.suppress(OSError):
                _write(top / path, old[path])
        raise
    return done


def _write(target: Path, data: bytes | None) -> None:
    if data is None:
        target.unlink(missing_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    mode = target.stat().st_mode & 0o777 if target.exists() else 0o644
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name[:40]}")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        os.chmod(name, mode)
        os.replace(name, target)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise


def ask_plan(said: Callable[[str], str], packed: str, task: str) -> dict[str, Any]:
    """Ask a chat model, given as a function from prompt to answer, for a plan."""
    return read_plan(said(f"{packed}\n{ASK.format(task=task)}"))
