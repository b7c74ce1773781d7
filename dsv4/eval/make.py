"""`dsv4 eval make`: what the hands make, judged by image analysis and by the tree; no data folder, no other model.

The judges are first held to what is right (all of it must pass) and to what is wrong (none of it may), then they judge.
Shape letters: F frames, H and W pixels. Sources: as in `shapescore` and `svg_tree`.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from dsv4._parts import part
from dsv4.eval import shapescore, svg_stress, svg_tree
from dsv4.eval.intervals import wilson
from dsv4.eval.shapescore import CATEGORIES, ShapeCase
from dsv4.eval.svg_tree import other_case

SIDE, FRAMES = 64, 16
CLIP_PARTS = ("semantic", "quality", "total")
FAMILIES = ("image", "svg", "video")


@dataclass
class Made:
    """What one family of cases came to: hits of count by category, figures of its own, and pictures for the sheet."""

    hits: dict[str, list[bool]] = field(default_factory=dict)
    figures: dict[str, float] = field(default_factory=dict)
    cells: list[tuple[str, list[np.ndarray]]] = field(default_factory=list)


def main(args: argparse.Namespace) -> int:
    """Judge the judges, judge the model, print both, and write `scores.json` and `sheet.png` into `args.out`.

    `args` has model, out, cases, clips, only, svg_prompts and seed. Status 1 when a judge or a drawing fails.
    """
    from dsv4.eval.sheet import draw_sheet
    from dsv4.studio import Studio

    checks = dict(validation())
    for name, (right, wrong) in checks.items():
        print(f"judge of {name}: {right:.2f} of what is right passes, {wrong:.2f} of what is wrong", flush=True)
    if any(shares != (1.0, 0.0) for shares in checks.values()):
        print("a judge does not tell right from wrong, so it judges nothing")
        return 1
    studio, out = Studio.load(args.model), Path(args.out)
    record: dict[str, Any] = {"model": studio.name, "seed": args.seed, "judges": checks}
    cells: list[tuple[str, list[np.ndarray]]] = []
    for family in args.only or FAMILIES:
        made = RUNS[family](studio, args.clips if family == "video" else args.cases, args.seed)
        print("\n".join(lines(family, made)), flush=True)
        record[family] = {"hits": {key: sum(hits) for key, hits in made.hits.items()}, **made.figures}
        record[family]["cases"] = {key: len(hits) for key, hits in made.hits.items()}
        cells += made.cells
    told = stressed(studio, args.svg_prompts, args.seed) if args.svg_prompts else None
    if told is not None:
        record["svg_prompts"] = {"drawings": told.drawings, "valid": told.valid, "wrong": dict(told.wrong)}
        record["svg_prompts"] |= {"streams": told.streams, "prefixes": told.prefixes, "tokens": told.tokens}
    out.mkdir(exist_ok=True)
    (out / "scores.json").write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    draw_sheet(cells, columns=8).save(out / "sheet.png")
    print(f"{out / 'scores.json'}\n{out / 'sheet.png'}")
    return 1 if told is not None and told.wrong else 0


def validation(count: int = 12) -> Iterator[tuple[str, tuple[float, float]]]:
    """For each judge the share of right makes, and of wrong ones, that it lets pass."""
    rng = random.Random("judges")
    kinds = [shapescore.cases(None, kind, limit=count) for kind in CATEGORIES]
    found = [case for cases in kinds for case in cases]
    clips = shapescore.cases(None, "clip", limit=count)
    plain = [case for kind in CATEGORIES for case in svg_tree.cases(None, kind, limit=count)]
    yield "pictures", _shares(found, shapescore.truth, shapescore.judge, lambda case: other_case(case, rng))
    yield "drawings", _shares(plain, svg_tree.truth, svg_tree.judge, lambda case: other_case(case, rng))
    yield "clips", _shares(clips, _filmed, shapescore.judge, lambda case: _elsewhere(case, rng))


def _shares(
    found: list[ShapeCase], truth: Callable[[ShapeCase], Any], judge: Callable[[ShapeCase, Any], bool],
    other: Callable[[ShapeCase], ShapeCase],
) -> tuple[float, float]:  # fmt: skip
    made = [truth(case) for case in found]
    right = [judge(case, one) for case, one in zip(found, made, strict=True)]
    wrong = [judge(other(case), one) for case, one in zip(found, made, strict=True)]
    return sum(right) / len(right), sum(wrong) / len(wrong)


def _filmed(case: ShapeCase) -> np.ndarray:
    return shapescore.truth(case, size=SIDE, frames=FRAMES)


def _elsewhere(case: ShapeCase, rng: random.Random) -> ShapeCase:
    """The same clip's request in another motion."""
    others = [motion for motion in shapescore.TRACKED if motion != case.caption.motions[0]]
    return replace(case, caption=replace(case.caption, motions=(rng.choice(others),)))


def pictures(studio: Any, limit: int, seed: int) -> Made:
    """ShapeGenEval: `limit` cases a category; atoms are single claims, as in Soft-TIFA."""
    from dsv4.eval.run_model import make_frames

    made, atoms = Made(), []
    for kind in CATEGORIES:
        found = shapescore.cases(None, kind, limit=limit, seed=seed)
        asked = [case.prompt for case in found]
        shown = [frames[0] for frames in make_frames(studio.model, asked, size=SIDE, frames=1)]
        made.hits[kind] = [shapescore.judge(case, one) for case, one in zip(found, shown, strict=True)]
        for case, one in zip(found, shown, strict=True):
            atoms += shapescore.atoms(case, one).values()
        made.cells += _marked(found, [[one] for one in shown], made.hits[kind])
    made.figures = {"overall": shapescore.overall(made.hits), "atoms": sum(atoms) / len(atoms)}
    return made


def drawings(studio: Any, limit: int, seed: int) -> Made:
    """The same categories as SVG, judged by the tree, and how often pixels and tree agree."""
    svg, made, agree = part("generation.svg"), Made(), []
    for kind in CATEGORIES:
        found = svg_tree.cases(None, kind, limit=limit, seed=seed)
        texts = [studio.svg(case.prompt).text for case in found]
        shown = svg.rasterise_many(texts, 128)
        made.hits[kind] = [svg_tree.judge(case, text) for case, text in zip(found, texts, strict=True)]
        seen = [shapescore.judge(case, one) for case, one in zip(found, shown, strict=True)]
        agree += [tree == pixels for tree, pixels in zip(made.hits[kind], seen, strict=True)]
        made.cells += _marked(found, [[one] for one in shown], made.hits[kind])
    made.figures = {"overall": shapescore.overall(made.hits), "pixels agree": sum(agree) / len(agree)}
    return made


def clips(studio: Any, limit: int, seed: int) -> Made:
    """ShapeVBench: semantic and quality parts of clips of one moving shape."""
    from dsv4.eval.run_model import make_frames

    found, made = shapescore.cases(None, "clip", limit=limit, seed=seed), Made()
    films = make_frames(studio.model, [case.prompt for case in found], size=SIDE, frames=FRAMES, rows=8)
    scores = [shapescore.clip_scores(case, film) for case, film in zip(found, films, strict=True)]
    made.hits["clip"] = [shapescore.judge(case, film) for case, film in zip(found, films, strict=True)]
    made.figures = {name: float(np.mean([score[name] for score in scores])) for name in CLIP_PARTS}
    made.cells = _marked(found, [[film[0], film[7], film[15]] for film in films], made.hits["clip"])
    return made


def _marked(found: list[ShapeCase], shown: list[list[np.ndarray]], hits: list[bool]) -> list[Any]:
    """Cells of the sheet: the first four of a category, each with the judge's word in front."""
    rows = list(zip(found, shown, hits, strict=True))[:4]
    return [(f"{'right' if hit else 'WRONG'}: {case.prompt}", pictures) for case, pictures, hit in rows]


def lines(family: str, made: Made) -> list[str]:
    """What is printed about a family."""
    rows = []
    for kind, hits in made.hits.items():
        low, high = wilson(sum(hits), len(hits))
        share = f"{sum(hits)} of {len(hits)}"
        rows.append(f"{family:<6}{kind:<13}{share:>10}   95 %: {100 * low:.0f}-{100 * high:.0f} %")
    return [*rows, f"{family:<6}" + ", ".join(f"{name} {value:.3f}" for name, value in made.figures.items())]


def stressed(studio: Any, count: int, seed: int) -> svg_stress.Told:
    """Draw for `count` prompts of every kind and print the tally, now and then and at the end."""
    told, shown = svg_stress.Told(), time.monotonic()
    for told in svg_stress.run(studio, count, seed=seed):
        if time.monotonic() - shown > 60:
            print(f"svg prompts: {told.drawings} drawn, {told.valid} valid", flush=True)
            shown = time.monotonic()
    print(
        f"svg prompts: {told.valid} of {told.drawings} rebuild, render and keep the limits; "
        f"{told.prefixes} beginnings of {told.streams} streams parse"
    )
    for reason, times in told.wrong.most_common(5):
        print(f"  {times} x {reason}, first for {told.first[reason]!r}")
    return told


RUNS: dict[str, Callable[[Any, int, int], Made]] = {"image": pictures, "svg": drawings, "video": clips}
