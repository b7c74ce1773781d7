"""`dsv4 chat`, `describe`, `svg`, `image` and `video`: one result from one prompt.

What can be refused is refused before the model is loaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dsv4
from dsv4 import forecast, limits, spelling
from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.messages import document, image, video
from dsv4.redraw import QUESTION, redrawn_as
from dsv4.results import SUFFIXES, Progress, Reply, Svg, check_output, credited

from ..settings import resolve
from .turns import hold, read_turns

CLIPS = (".mp4", ".webm", ".mov", ".mkv", ".avi")


def chat(args: argparse.Namespace) -> int:
    """Print the answer while it comes; what the answer asks the hands for is made and written to `--output`."""
    if args.turns:
        return _turns(args)
    limits.check_prompt(args.prompt)
    limits.check_mode(args.mode)
    limits.check_numbers(seed=args.seed, temperature=args.temperature, max_tokens=args.max_tokens)
    if args.output:
        _check_answer(args.output)
    shown = [
        *(image(path) for path in args.image),
        *(document(path) for path in args.document),
        *(video(path) for path in args.video),
    ]
    studio, started = _load(args), time.monotonic()
    settings = {"mode": args.mode, "seed": args.seed, "temperature": args.temperature, "max_tokens": args.max_tokens}
    stream = studio.chat(args.prompt, *shown, **settings, **_as_typed(args))
    for piece in stream:
        if not args.json:
            print(piece, end="", flush=True)
    reply = stream.reply
    if args.output:
        _keep(studio, reply, args.output, args.seed)
    if args.json:
        usage = {"read": reply.usage.read, "written": reply.usage.written, "cached": reply.usage.cached}
        record = {"text": reply.text, "thought": reply.thought, "stopped": reply.stopped, "usage": usage}
        _print_json(record, reply.provenance, started)
    else:
        print()
        _say_read(args, reply)
    return 0


def _as_typed(args: argparse.Namespace) -> dict[str, bool]:
    return {} if args.correct else {"correct": False}


def _say_read(args: argparse.Namespace, made: Any) -> None:
    """Say which words were read as others."""
    note = spelling.told(made.corrected, made.untaught)
    if note and not args.quiet and not args.json:
        print(note, file=sys.stderr)


def _check_answer(path: str) -> None:
    """Refuse a file that no answer can be written to."""
    suffixes = dict.fromkeys(suffix for kind in ("chat", "svg", "image", "video") for suffix in SUFFIXES[kind])
    if Path(path).suffix.lower() not in suffixes:
        raise unknown("answer format", Path(path).suffix or path, list(suffixes))


def _keep(studio: Any, reply: Reply, path: str, seed: int) -> None:
    """Write an answer to a file: its words, or what it asks the hands for."""
    if reply.call is None or Path(path).suffix.lower() in SUFFIXES["chat"]:
        reply.save(path)
        return
    check_output(path, reply.call.kind)
    credited(studio.perform(reply.call, seed=seed), reply).save(path)


def _turns(args: argparse.Namespace) -> int:
    """Hold a conversation from a file of questions, one a line, and print it; a folder keeps it and what is made."""
    for flag in ("prompt", "image", "document", "video", "json"):
        if getattr(args, flag):
            raise InputError(f"--turns holds a conversation of words from a file; it takes no {flag}")
    limits.check_mode(args.mode)
    limits.check_numbers(seed=args.seed, temperature=args.temperature, max_tokens=args.max_tokens)
    lines = read_turns(args.turns)
    settings = {"mode": args.mode, "seed": args.seed, "temperature": args.temperature, "max_tokens": args.max_tokens}
    settings |= _as_typed(args)
    hold(_load(args), lines, folder=Path(args.output) if args.output else None, say=print, **settings)
    return 0


def describe(args: argparse.Namespace) -> int:
    """Print what a picture, a drawing or a clip shows, in the model's words."""
    limits.check_mode(args.mode)
    suffix = Path(args.file).suffix.lower()
    shown = (video if suffix in CLIPS else image)(args.file)
    studio, started = _load(args), time.monotonic()
    reply = studio.chat(QUESTION, shown, mode=args.mode).reply
    if args.json:
        _print_json({"text": reply.text}, reply.provenance, started)
    else:
        print(reply.text)
    return 0


def svg(args: argparse.Namespace) -> int:
    """Write an SVG, or print it when no file is named."""
    if args.picture and args.edit:
        raise InputError("give either a picture to redraw or a drawing to edit, not both")
    if not args.picture:
        limits.check_prompt(args.prompt)
    limits.check_numbers(
        seed=args.seed, temperature=args.temperature, max_tokens=args.max_tokens, candidates=args.candidates
    )
    limits.check_trace(args.trace)
    if args.trace == "always" and not args.picture:
        raise InputError("--trace always follows the outlines of a picture; give one with --from FILE")
    if args.output:
        check_output(args.output, "svg")
    started = time.monotonic()
    drawing = (
        _edited(args)
        if args.edit
        else _load(args).svg(
            args.prompt,
            picture=image(args.picture) if args.picture else None,
            trace=args.trace,
            seed=args.seed,
            temperature=args.temperature,
            max_tokens=args.max_tokens,
            candidates=args.candidates,
            **_as_typed(args),
            on_progress=_reporter(args),
        )
    )
    settings = drawing.provenance.get("settings", {})
    if args.picture and "likeness" in settings and not args.quiet and not args.json:
        print(redrawn_as(settings), file=sys.stderr)
    if args.output:
        return _saved(args, drawing, started)
    _say_read(args, drawing)
    if args.json:
        _print_json({"svg": drawing.text}, drawing.provenance, started)
    else:
        print(drawing.text, end="" if drawing.text.endswith("\n") else "\n")
    return 0


def _edited(args: argparse.Namespace) -> Svg:
    """A file's drawing with one edit done; needs no model."""
    try:
        text = part("generation.svg").edit(Path(args.edit).read_text(encoding="utf-8"), args.prompt)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot edit '{args.edit}': {error}") from error
    made_by = {"task": "svg", "prompt": args.prompt.strip(), "edited": Path(args.edit).name}
    return Svg(text=text, provenance=made_by)


def picture(args: argparse.Namespace) -> int:
    """Write a picture."""
    limits.check_prompt(args.prompt)
    limits.check_size(args.size)
    limits.check_numbers(seed=args.seed, steps=args.steps)
    args.guidance = limits.guidance_for(args.steps, args.guidance)
    check_output(args.output, "image")
    studio, started = _load(args), time.monotonic()
    side = limits.painted_size(args.size)
    _forecast(args, studio, (1, side, side))
    painted = studio.image(
        args.prompt,
        seed=args.seed,
        size=args.size,
        steps=args.steps,
        guidance=args.guidance,
        **_as_typed(args),
        on_progress=_reporter(args),
    )
    return _saved(args, painted, started)


def clip(args: argparse.Namespace) -> int:
    """Write a clip."""
    limits.check_prompt(args.prompt)
    limits.check_numbers(seconds=args.seconds, seed=args.seed, steps=args.steps)
    args.guidance = limits.guidance_for(args.steps, args.guidance)
    check_output(args.output, "video")
    first_frame = image(args.first_frame) if args.first_frame else None
    after = video(args.after) if args.after else None
    limits.check_clip(args.seconds, first_frame, after)
    studio, started = _load(args), time.monotonic()
    _forecast(args, studio, (limits.clip_frames(args.seconds), limits.CLIP_SIZE, limits.CLIP_SIZE))
    filmed = studio.video(
        args.prompt,
        seconds=args.seconds,
        seed=args.seed,
        steps=args.steps,
        guidance=args.guidance,
        first_frame=first_frame,
        after=after,
        **_as_typed(args),
        on_progress=_reporter(args),
    )
    return _saved(args, filmed, started)


def _load(args: argparse.Namespace) -> Any:
    return dsv4.load(resolve("model", args.model).value)


def _forecast(args: argparse.Namespace, studio: Any, shape: tuple[int, int, int]) -> None:
    """Say how long it will take, before it starts; a model without a head says for itself what is wrong."""
    head = getattr(getattr(studio, "model", None), "head", None)
    if args.quiet or args.json or head is None:
        return
    seconds = forecast.seconds_of(head, shape, steps=args.steps, guidance=args.guidance)
    print(f"{shape[0]} frames" if shape[0] > 1 else "a picture", f"in {forecast.told(seconds)}", file=sys.stderr)


def _reporter(args: argparse.Namespace) -> Callable[[Progress], None] | None:
    """Progress on one line that rewrites itself, only where a person looks."""
    if args.quiet or args.json or not sys.stderr.isatty():
        return None

    def report(now: Progress) -> None:
        end = "\r" if now.step < now.total else "\r\033[K"
        print(f"step {now.step} of {now.total}", end=end, file=sys.stderr, flush=True)

    return report


def _saved(args: argparse.Namespace, result: Any, started: float) -> int:
    path = result.save(args.output, provenance=not args.no_provenance)
    _say_read(args, result)
    if args.json:
        _print_json({"file": str(path)}, result.provenance, started)
    elif not args.quiet:
        print(path)
    return 0


def _print_json(record: dict[str, Any], provenance: Any, started: float) -> None:
    seconds = round(time.monotonic() - started, 3)
    print(json.dumps({**record, "seconds": seconds, "made_by": dict(provenance)}, ensure_ascii=False))
