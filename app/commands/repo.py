"""`dsv4 repo pack`, `graph` and `edit`."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from dsv4.errors import InputError

BROKEN = 3


def pack(args: argparse.Namespace) -> int:
    """Print the prompt, or write it and print what is in it."""
    from dsv4.repository import pack as packed
    from dsv4.results import write_whole

    made = packed(
        args.path, budget=args.budget, query=args.query, pictures=args.image, mode=args.mode, counts=args.tokenizer,
        ignore=args.ignore,
    )  # fmt: skip
    report = made.report()
    if args.output:
        write_whole(Path(args.output), made.text.encode())
    if args.json:
        print(json.dumps(report | ({} if args.output else {"text": made.text}), ensure_ascii=False))
    elif args.output:
        parts = ", ".join(f"{report[level]} {level}" for level in ("full", "parts", "heads"))
        print(f"{report['tokens']:,} of {report['budget']:,} tokens ({report['vocabulary']}): {parts}, "
              f"{report['left_out']} left out; {report['edges']} imports")  # fmt: skip
        _print_notes(report["notes"])
    else:
        sys.stdout.write(made.text)
    return 0


def graph(args: argparse.Namespace) -> int:
    """Print a line for each import, or draw the graph."""
    from dsv4.repository import read_graph
    from dsv4.repository.draw import draw
    from dsv4.results import write_whole

    found = read_graph(args.path, ignore=args.ignore)
    if args.output:
        if Path(args.output).suffix.lower() != ".svg":
            raise InputError(f"the graph is drawn as .svg, got '{args.output}'")
        write_whole(Path(args.output), draw(found, files=args.files).encode())
    if args.json:
        edges = [{"from": e.source, "to": e.target, "names": list(e.names)} for e in found.imports]
        notes = [{"path": note.path, "why": note.why} for note in found.notes]
        print(json.dumps({"files": sorted(found.files), "imports": edges, "notes": notes}, ensure_ascii=False))
    elif args.output:
        print(f"{args.output}: {len(found.files)} files, {len(found.imports)} imports")
    else:
        for edge in found.imports:
            print(f"{edge.source} -> {edge.target}" + (f": {', '.join(edge.names)}" if edge.names else ""))
    return 0


def edit(args: argparse.Namespace) -> int:
    """Print the patch of a plan, and apply it if told to; status 3 when imports would break."""
    from dsv4.repository import read_graph
    from dsv4.repository.edit import apply, read_plan, try_plan
    from dsv4.results import write_whole

    if bool(args.task) == bool(args.plan):
        raise InputError("give either --task, for a chat model to plan, or --plan with a file")
    found = read_graph(args.path, ignore=args.ignore)
    if args.plan:
        plan = read_plan(Path(args.plan).read_text(encoding="utf-8"))
    else:
        plan = _asked(args, found)
    if args.save_plan:
        write_whole(Path(args.save_plan), (json.dumps(plan, indent=1, ensure_ascii=False) + "\n").encode())
    tried = try_plan(found, plan)
    go = args.apply and (not tried.breaks or args.force)
    changed = apply(tried, args.path) if go else []
    breaks = [{"path": path, "line": line, "why": why} for path, line, why in tried.breaks]
    if args.json:
        record = {"why": tried.why, "patch": tried.patch, "breaks": breaks, "applied": changed}
        print(json.dumps(record, ensure_ascii=False))
    else:
        sys.stdout.write(tried.patch)
        for one in breaks:
            print(f"would break: {one['path']}:{one['line']}: {one['why']}", file=sys.stderr)
        told = f"applied to {len(changed)} files" if changed else "nothing is written: --apply does it"
        print(told if not (args.apply and not go) else "not applied: --force applies it all the same", file=sys.stderr)
    return BROKEN if breaks and not go else 0


def _asked(args: argparse.Namespace, found) -> dict:
    from dsv4.repository import pack as packed
    from dsv4.repository.edit import ASK, ask_plan, read_plan
    from dsv4.repository.remote import remote_chat

    if args.url:
        if not args.model:
            raise InputError("--url needs --model: the name by which the server knows the model")
        ask: Callable[[str], str] = remote_chat(args.url, args.model)
        return ask_plan(ask, packed(found, budget=args.budget, query=args.task).text, args.task)
    import dsv4

    from ..settings import resolve

    studio = dsv4.load(resolve("model", args.model).value)
    stream = studio.chat(ASK.format(task=args.task), dsv4.repo(args.path, ignore=tuple(args.ignore)), max_tokens=4096)
    return read_plan("".join(stream))


def _print_notes(notes: list[dict[str, str]], most: int = 12) -> None:
    for note in notes[:most]:
        print(f"  {note['path']}: {note['why']}")
    if len(notes) > most:
        print(f"  and {len(notes) - most} more (--json lists them)")
