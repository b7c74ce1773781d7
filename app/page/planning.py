"""What fits where, as `dsv4 plan` works it out, in the Model room: a form above, its answer as a table below.

It is worked out in a process of its own: counting our presets needs torch, which this server does not load.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from html import escape
from typing import Any

import gradio as gr

from dsv4.errors import InputError
from dsv4.plan.models import PRESETS, TIERS
from dsv4.plan.tables import table

from . import look
from .kit import QUIET, complain, whole

PATIENCE = 120  # seconds; two on a quiet machine, and most of them are torch's
PLACES = {"device": "device", "dram": "host memory", "disk": "disk", "nowhere": "nowhere"}


def plan_form() -> None:
    """Lay out the form and connect it."""
    gr.Markdown(
        "## What fits where\nA configuration on a machine, before anything is bought or fetched: what each part takes, "
        "in which memory it lies, how fast it may decode, and what fits when it does not. The same as `dsv4 plan`."
    )
    with gr.Row(elem_classes="middle"):
        model = gr.Dropdown(
            [*PRESETS, *table("family")["models"]], value="nano", label="Configuration", allow_custom_value=False,
            min_width=170, elem_id="plan-model",
        )  # fmt: skip
        tier = gr.Dropdown(
            [(f"{name}: {row.says}", name) for name, row in TIERS.items()], value="q4", label="Tier", min_width=170
        )
        machine = gr.Dropdown(
            list(table("hardware")["machines"]), value="laptop", label="Machine", allow_custom_value=True,
            info="or in words: rtx5090+ddr:192@83", min_width=200,
        )  # fmt: skip
    with gr.Row(elem_classes="middle"):
        context = gr.Number(32_768, label="Context, tokens", precision=0, minimum=1, min_width=120)
        batch = gr.Number(1, label="Sequences at once", precision=0, minimum=1, min_width=120)
        ask = gr.Button("Work it out", elem_classes="quiet", min_width=130, elem_id="plan-ask")
    line = gr.HTML(look.status(), elem_id="plan-line")
    answer = gr.Markdown("", elem_id="plan-answer")

    def begin() -> str:
        return look.status("Working it out …")

    def show(name: str, tier: str, machine: str, context: Any, batch: Any) -> tuple[str, str]:
        try:
            told = planned(name, tier, machine, whole(context, "context"), whole(batch, "batch"))
        except ValueError as error:
            return complain(error), ""
        return look.status(), in_words(told)

    asked = [model, tier, machine, context, batch]
    ask.click(begin, None, line, **QUIET).then(show, asked, [line, answer], **QUIET)


@lru_cache(maxsize=64)
def planned(model: str, tier: str, machine: str, context: int, batch: int) -> dict[str, Any]:
    """What `dsv4 plan --json` says; raises InputError in its words."""
    if model not in (*PRESETS, *table("family")["models"]):  # a path is for the command line: this is a page
        raise InputError(f"there is no configuration '{model[:60]}'")
    options = {"tier": tier, "ctx": context, "batch": batch, "hw": machine}
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "dsv4", "plan", model, *flags, "--json"]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired as error:
        raise InputError("it took too long; this machine is busy") from error
    if run.returncode not in (0, 1):
        raise InputError(run.stderr.strip().removeprefix("dsv4: ") or "the plan could not be made")
    return json.loads(run.stdout)


def in_words(told: dict[str, Any]) -> str:
    """The plan as Markdown: whether it fits, a row a part, and the nearest that fit."""
    model, placed, speed = told["model"], told["placed"], told["speed"]
    total = sum(one["gb"] for one in placed["components"])
    head = f"**{escape(model['name'])}**, tier {escape(told['tier'])}, {told['batch']} × {told['context']:,} tokens "
    counts = f"{_count(model['total'])} parameters, {_count(model['active'])} a token"
    head += f"on {escape(told['machine']['name'])}: {counts}."
    if told["fits"]:
        rate = f"**It fits.** {_rate(speed['low'])} to {_rate(speed['high'])} tokens a second are to be expected"
        by = PLACES.get(speed["bound_by"], speed["bound_by"])
        verdict = f"{rate}, at most {_rate(speed['bound'])}; bound by the {by}."
    else:
        verdict = f"**It does not fit:** {escape(told['why_not'])}."
    lines = [head, "", verdict, "", "| part | GB | where | why |", "|---|---|---|---|"]
    for one in placed["components"]:
        where = ", ".join(f"{PLACES.get(place, place)} {gb:,.2f}" for place, gb in one["where"].items()) or "nothing"
        lines.append(f"| {one['name']} | {one['gb']:,.3f} | {where} | {escape(one['why'])} |")
    lines.append(f"| together | {total:,.3f} | | |")
    if told["nearest"]:
        lines += ["", "| nearest that fit | tokens a second |", "|---|---|"]
        lines += [
            f"| {escape(one['change'])} | {_rate(one['low'])} to {_rate(one['high'])} |" for one in told["nearest"]
        ]
    if told["fits"]:
        lines += ["", f"Start it with `{told['launch']}`."]
    return "\n".join(lines)


def _rate(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:,.1f}"


def _count(number: float) -> str:
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{number / size:.1f} {word}"
    return f"{number:,.0f}"
