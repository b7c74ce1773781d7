"""The Model room: what is loaded, what it can and cannot do, what it did here, what that would cost elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr

from dsv4._parts import asset
from dsv4.limits import BATCH_ROWS, CLIP_FPS, CLIP_SIZE, PICTURES, PROMPT_CHARACTERS, RANGES, SIDES

from ..archive import read_archive
from ..house import House
from . import look
from .kit import QUIET, complain, owner_of
from .planning import plan_form

# US dollars for a million tokens; the list prices of the day named. They change: read them as an order of size.
CHECKED = "27 October 2026"
PRICES: tuple[tuple[str, float, float, str], ...] = (
    ("deepseek-flash, off-peak", 0.15, 0.60, "api-docs.deepseek.com"),
    ("deepseek-flash, peak", 0.30, 1.20, "api-docs.deepseek.com"),
    ("deepseek-v4-pro, off-peak", 0.66, 1.98, "api-docs.deepseek.com"),
    ("deepseek-v4-pro, peak", 1.32, 3.96, "api-docs.deepseek.com"),
)


def model_room(house: House) -> gr.Markdown:
    """Lay out the room; returns the part that changes, for `describe` to fill."""
    with gr.Column(elem_classes="about"):
        loaded = gr.Markdown(describe(house))
        gr.Markdown(_words("abilities.md"))
        plan_form()
        gr.Markdown(_limits())
        _own_data(house)
        gr.Markdown(_words("sources.md"))
        notice = asset("nano") / "NOTICE"
        if notice.is_file():
            with gr.Accordion("Every licence and attribution", open=False):
                gr.Markdown(f"```text\n{notice.read_text('utf-8')}\n```")
    return loaded


def _own_data(house: House) -> None:
    """Everything that somebody has here as one file, and back."""
    gr.Markdown(f"## Your data\n{_kept(house)}")
    with gr.Row(elem_classes="middle"):
        gr.HTML('<a class="small" href="v1/archive" download>Save everything …</a>', min_width=140)
        take = gr.UploadButton("Take an archive in …", file_types=[".zip"], size="sm", elem_id="archive", scale=0)
    line = gr.HTML(look.status(), elem_id="archive-line")

    def came(path: str, request: gr.Request) -> str:
        try:
            counts = read_archive(house, owner_of(request), Path(path))
        except ValueError as error:
            return complain(error)
        return look.status("Taken in: " + ", ".join(f"{count:,} {what}" for what, count in counts.items()) + ".")

    take.upload(came, take, line, **QUIET)


def _kept(house: House) -> str:
    limits = [f"for {house.keep_days:,} days"] if house.keep_days else []
    limits += [f"up to {house.keep_gb:,} GB, the oldest go first"] if house.keep_gb else []
    words = f"are kept {' and '.join(limits)}; what has a star stays" if limits else "stay until you delete them"
    return f"Conversations and what was made {words}. Save them all as one file, or bring them from elsewhere."


def describe(house: House, owner: str | None = None) -> str:
    """What is loaded and what it did for `owner`, in Markdown."""
    keeper = house.keeper
    if keeper.state == "failed":
        return f"## {escape(keeper.name)} is not loaded\n{escape(keeper.reason)}"
    if keeper.state != "ready":
        words = "The page works already; what you ask for starts when the model is there."
        return f"## {escape(keeper.name)} is loading\n{words}"
    facts = keeper.facts
    rows = [("Fingerprint", f"`{facts['fingerprint']}`"), *facts["parts"]]
    if not facts["parts"]:
        rows.append(("Weights", "none: echo repeats what it is asked, to try the page"))
    rows += _meters(keeper.meters)
    rows += [("Loaded in", f"{facts['seconds']:.1f} seconds"), ("Process", str(facts["pid"]))]
    table = "\n".join(f"| {key} | {text} |" for key, text in rows)
    loaded = f"## What is loaded\n| Model | {escape(facts['name'])} |\n|---|---|\n{table}"
    loaded += _choices(house)
    return f"{loaded}\n\n{meter(house, owner)}" if owner else loaded


def _choices(house: House) -> str:
    """The other models that can be chosen, and how to have more."""
    others = house.shelf.others.values()
    if not others:
        return "\n\nMore to choose from: start with `--models NAME,FOLDER` or, for real weights, `--presets DIR`."
    lines = ["\n\n## What else can be chosen", "| model | what it is | makes | now |", "|---|---|---|---|"]
    for one in others:
        now = "loaded once, at hand" if one.name in house.keeper.others else "loads when first asked"
        makes = ", ".join(one.kinds) or "what its parts allow"
        lines.append(f"| {escape(one.name)} | {escape(one.about)} | {makes} | {now} |")
    return "\n".join(lines)


def _meters(found: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Where parts lie that are not with the others, how often they were at hand, and what waiting for them took."""
    rows = []
    if (experts := found.get("experts")) is not None:
        share = 100 * experts["hits"] / max(1, experts["used"])
        told = f"{experts['home']}; {share:.0f} % of {experts['used']:,} uses were at hand, "
        rows.append(("Experts", f"{told}{experts['bytes_fetched'] / 1e6:,.0f} MB fetched, "
                                f"{experts['waited']:.2f} s waited"))  # fmt: skip
    if (engram := found.get("engram")) is not None:
        told = f"{engram['home']}; {engram['rows']:,} rows, {engram['bytes_fetched'] / 1e6:,.1f} MB fetched ahead, "
        rows.append(("Engram", f"{told}{engram['waited']:.3f} s waited"))
    if (prefixes := found.get("prefixes")) is not None:
        share = 100 * prefixes["reused"] / max(1, prefixes["asked"])
        rows.append(("Prompts that began alike", f"{share:.0f} % of {prefixes['asked']:,} tokens were not read again"))
    return rows


def meter(house: House, owner: str) -> str:
    """Tokens and seconds of this owner's jobs by kind, and the price of the same tokens elsewhere."""
    found = house.store.rows(
        "SELECT kind, count(*) AS jobs, sum(seconds) AS seconds, "
        "coalesce(sum(json_extract(result, '$.usage.read')), 0) AS read, "
        "coalesce(sum(json_extract(result, '$.usage.written')), 0) AS written, "
        "coalesce(sum(json_extract(result, '$.usage.cached')), 0) AS known, "
        "avg(json_extract(result, '$.first')) AS first, "
        "coalesce(sum(json_extract(result, '$.engram.rows')), 0) AS engram, "
        "coalesce(sum(json_extract(result, '$.engram.seconds')), 0) AS fetching "
        "FROM job WHERE owner = ? AND state = 'done' GROUP BY kind ORDER BY kind",
        (owner,),
    )
    if not found:
        return ""
    lines = [
        "## What it did here",
        "| kind | jobs | seconds | tokens read | of them known | written | a second | first word after | Engram rows |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in found:
        rate = f"{row['written'] / row['seconds']:.0f}" if row["written"] and row["seconds"] > 0 else "–"
        first = "–" if row["first"] is None else f"{row['first']:.2f} s"
        counts = f"{row['read']:,} | {row['known']:,} | {row['written']:,}" if row["written"] else "– | – | –"
        memory = f"{row['engram']:,} in {row['fetching']:.2f} s" if row["engram"] else "–"
        lines.append(
            f"| {row['kind']} | {row['jobs']:,} | {row['seconds']:.1f} | {counts} | {rate} | {first} | {memory} |"
        )
    read, written = sum(row["read"] for row in found), sum(row["written"] for row in found)
    lines += [
        "", "## What as many tokens cost elsewhere",
        f"List prices of {CHECKED}, US dollars a million tokens; here they cost electricity. These are far larger "
        "models: the table compares tokens, not answers.",
        "", "| model | read | written | these tokens | source |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for name, price_read, price_written, source in PRICES:
        cost = (read * price_read + written * price_written) / 1e6
        lines.append(f"| {name} | {price_read:.2f} | {price_written:.2f} | ${cost:.6f} | {source} |")
    return "\n".join(lines)


def _limits() -> str:
    seconds = RANGES["seconds"]
    return (
        "## Limits\n"
        f"Prompts of up to {PROMPT_CHARACTERS:,} characters, {PICTURES} pictures in a message, pictures of "
        f"{SIDES[0]} to {SIDES[-1]} pixels a side, clips of {CLIP_SIZE} pixels, {CLIP_FPS} frames a second and "
        f"{seconds.low:g} to {seconds.high:g} seconds, batches of {BATCH_ROWS:,} rows. How the studio is used from "
        "programs is at [docs](docs)."
    )


def _words(name: str) -> str:
    return Path(__file__).with_name(name).read_text("utf-8")
