"""Scores over time: what every generation of nano's weights reached, row by row, as a table and as a picture.

Run as `python -m dsv4.eval.over_time docs/scores.json -o docs/nano_over_time.svg`; with `--add FILE --name fifth` it
first takes in a further generation: what `dsv4 eval nano --out` wrote (of either table, the later one joins the
earlier), or any text that holds a printed table. Figures are the printed ones, in percent.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dsv4.errors import InputError
from dsv4.eval.growth import GROWTH
from dsv4.eval.plot import FAINT, INK, Axis, dot, page, rule, words
from dsv4.eval.rows import ROWS, Row

# From pale to dark: the newest weights stand out.
SHADES = ("#c6dbef", "#8fb8de", "#5a93cc", "#2b6cb0", "#0b3d78", "#d1242f", "#8250df", "#1a7f37")
LESS = {"read", "read_held", "wrongly_refused"}  # rows in which less is better
LEFT, RIGHT, ROW, TOP, WIDTH = 370, 30, 17, 66, 860
_LINE = re.compile(r"^\| ([^|]+) \| [^|]* \| ([\d.]+) % \| (\d+) \| [^|]* \|", flags=re.M)

Score = dict[str, float]  # percent and count
Generation = dict[str, Any]  # name, date, rows: a Score by the row's key


def rows() -> dict[str, Row]:
    """Every row of both tables by its key, in the order of the tables."""
    return {row.key: row for row in (*ROWS, *GROWTH)}


def read_table(text: str) -> dict[str, Score]:
    """The scores in a text, by key: from the records in its last line, or from the printed lines of a table.

    Raises InputError where there are neither.
    """
    last = text.strip().rsplit("\n", 1)[-1]
    if last.startswith("["):
        return {record["row"]: _score(record) for record in json.loads(last) if record["row"] in rows()}
    keys = {row.title: key for key, row in rows().items()}
    found = {
        keys[title]: {"percent": float(percent), "count": int(count)}
        for title, percent, count in _LINE.findall(text)
        if title in keys
    }
    if not found:
        raise InputError("there is no table of scores in this file; `dsv4 eval nano --out FILE` writes one")
    return found


def _score(record: dict[str, Any]) -> Score:
    rate = record["hits"] / max(1, record["count"]) if record["rate"] is None else record["rate"]
    return {"percent": round(100 * rate, 1), "count": record["count"]}


def add(generations: list[Generation], name: str, date: str, scores: dict[str, Score]) -> list[Generation]:
    """The generations with these scores; those of a name that is there already join its others."""
    for one in generations:
        if one["name"] == name:
            joined = {**one, "date": date or one["date"], "rows": {**one["rows"], **scores}}
            return [joined if other is one else other for other in generations]
    return [*generations, {"name": name, "date": date, "rows": scores}]


def table(generations: Sequence[Generation]) -> list[str]:
    """A column a generation; rows that nobody measured are left out."""
    lines = [
        "| row | goal | " + " | ".join(one["name"] for one in generations) + " |",
        "|---" * (2 + len(generations)) + "|",
    ]
    for key, row in _measured(generations).items():
        cells = [f"{one['rows'][key]['percent']:.1f} %" if key in one["rows"] else "–" for one in generations]
        lines.append(f"| {row.title} | {row.wanted} | " + " | ".join(cells) + " |")
    return lines


def _measured(generations: Sequence[Generation]) -> dict[str, Row]:
    return {key: row for key, row in rows().items() if any(key in one["rows"] for one in generations)}


def draw(generations: Sequence[Generation]) -> str:
    """A line a row from 0 to 100 percent, a dot a generation, the goal as a tick; InputError without a score."""
    measured = _measured(generations)
    if not measured:
        raise InputError("there is nothing to draw: no generation has a row of the score tables")
    across = Axis([0, 100], LEFT, WIDTH - RIGHT, pad=0)
    both = [[key for key in measured if key in {row.key for row in half}] for half in (ROWS, GROWTH)]
    height = TOP + ROW * len(measured) + 26 * sum(map(bool, both)) + 20
    body = [words(16, 24, "Nano over time", more='font-size="15" font-weight="bold"'), *_legend(generations)]
    top = float(TOP)
    for title, keys in zip(("What it can", "What it is to grow into"), both, strict=True):
        if not keys:
            continue
        body.append(words(16, top + 12, title, more='font-weight="bold"'))
        for value in (0, 25, 50, 75, 100):
            at = across.place(value)
            body.append(words(at, top + 12, f"{value} %", anchor="middle", more=f'fill="{FAINT}" font-size="10"'))
            body.append(rule(at, top + 18, at, top + 18 + ROW * len(keys)))
        top += 18
        for key in keys:
            body += _row(measured[key], generations, across, top + ROW / 2)
            top += ROW
        top += 8
    return page(body, width=WIDTH, height=height)


def _row(row: Row, generations: Sequence[Generation], across: Axis, y: float) -> list[str]:
    title = row.title + (" (less is better)" if row.key in LESS else "")
    body = [words(LEFT - 12, y + 4, title, anchor="end"), rule(LEFT, y, WIDTH - RIGHT, y, colour="#f3f3f3")]
    scores = [
        (number, one["rows"][row.key]["percent"]) for number, one in enumerate(generations) if row.key in one["rows"]
    ]
    ends = [across.place(percent) for _, percent in scores]
    body.append(rule(min(ends), y, max(ends), y, colour="#b8c4d0", more='stroke-width="2"'))
    goal = re.search(r"[\d.]+", row.wanted)
    if goal:
        at = across.place(float(goal[0]))
        body.append(rule(at, y - 7, at, y + 7, colour=INK, more='stroke-width="1.5"'))
    # Equal scores share a place: each later one is drawn smaller, so that every one is seen.
    for order, (number, percent) in enumerate(scores):
        size = 6.5 - 1.2 * sum(other == percent for _, other in scores[:order])
        told = 'stroke="white" stroke-width="0.8"'
        body.append(dot(across.place(percent), y, SHADES[number % len(SHADES)], radius=max(2.0, size), more=told))
    return body


def _legend(generations: Sequence[Generation]) -> list[str]:
    body, x = [], 22.0
    for number, one in enumerate(generations):
        said = one["name"] + (f", {one['date']}" if one.get("date") else "")
        body += [dot(x, 44, SHADES[number % len(SHADES)], radius=5.5), words(x + 10, 48, said)]
        x += 26 + 6.1 * len(said)
    return [*body, rule(x, 38, x, 50, colour=INK, more='stroke-width="1.5"'), words(x + 8, 48, "goal")]


def main(argv: list[str] | None = None) -> int:
    """Take in, print and draw; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dsv4.eval.over_time", description=__doc__)
    parser.add_argument("scores", type=Path, help="a JSON file; it is made when something is taken in")
    parser.add_argument("-o", "--out", type=Path, help="also draw it to this SVG file")
    parser.add_argument("--add", type=Path, metavar="FILE", help="what `dsv4 eval nano --out` wrote")
    parser.add_argument("--name", help="of the weights whose scores are taken in")
    parser.add_argument("--date", default="", help="of these weights, as 2026-11-28")
    args = parser.parse_args(argv)
    if args.add and not args.name:
        raise InputError("--add needs --name, as the weights are called in the table: --name 'fifth weights'")
    generations: list[Generation] = json.loads(args.scores.read_text("utf-8")) if args.scores.is_file() else []
    if args.add:
        generations = add(generations, args.name, args.date, read_table(args.add.read_text(encoding="utf-8")))
        args.scores.write_text(json.dumps(generations, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print("\n".join(table(generations)))
    if args.out:
        args.out.write_text(draw(generations), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
