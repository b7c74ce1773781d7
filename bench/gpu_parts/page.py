"""The page of a run: tables of checks and figures, with commands, card, driver and versions."""

from __future__ import annotations

from typing import Any

from bench.gpu_parts.plot import drawable

COMMAND = "python bench/gpu.py --out DIR --minutes 9"


def page(data: dict[str, Any]) -> str:
    """Markdown of a whole book; figures come from it alone."""
    parts = [_head(data), _ceilings(data), _checks(data), _shares(data), _overheads(data), _groups(data)]
    parts.append(_missing(data))
    return "\n".join(part for part in parts if part)


def _head(data: dict[str, Any]) -> str:
    meta = data["meta"]
    rehearsed = "**Rehearsed with tiny sizes on a processor: these figures say nothing about a card.**\n\n"
    card = f"{meta.get('card', 'unknown')}, driver {meta.get('driver', '?')}, CUDA {meta.get('cuda', '?')}, "
    card += f"torch {meta.get('torch', '?')}, Triton {meta.get('triton', '?')}, Python {meta.get('python', '?')}, "
    card += f"{meta.get('cores', '?')} cores, {meta.get('host_bytes', 0) / 2**30:.0f} GiB of host memory"
    return (
        f"# The fast paths on a GPU\n\n{rehearsed if meta.get('tiny', True) else ''}Measured on: {card}.\n\n"
        f"```bash\n{COMMAND}\npython bench/gpu.py --page DIR/gpu.json -o docs/gpu.md\n"
        "python bench/gpu.py --plot DIR/gpu.json\n```\n\n"
        f"One run of {meta.get('seconds', 0):.0f} seconds, random inputs of seed {meta.get('seed', '?')}.\n"
        "Times are medians of single calls, with the card's cache overwritten before each. A share is the least time\n"
        "that the card could take, from bytes and operations counted by formula (`bench/gpu_parts/formulas.py`) and\n"
        "the ceilings measured here, over the time taken.\n"
    )


def _ceilings(data: dict[str, Any]) -> str:
    tops = data["ceilings"]
    names = {"copy": ("copy in device memory, read and written", 1e9, "GB/s"),
             "products": ("bfloat16 product", 1e12, "TFLOP/s"), "link": ("pinned host memory to device", 1e9, "GB/s"),
             "link_back": ("device to pinned host memory", 1e9, "GB/s"),
             "host_copy": ("copy in host memory, read and written", 1e9, "GB/s")}  # fmt: skip
    lines = [f"| {text} | {tops[key] / unit:,.1f} {word} |" for key, (text, unit, word) in names.items() if key in tops]
    return "## Ceilings\n\n| ceiling | measured |\n|---|---|\n" + "\n".join(lines) + "\n"


def _checks(data: dict[str, Any]) -> str:
    checks = data["checks"]
    if not checks:
        return ""
    passed = sum(check["passed"] for check in checks)
    lines = [
        f"## Checks\n\n**{passed} of {len(checks)} checks passed.** Each compares a fast path with its reference on",
        "fresh random inputs.\n",
        "| job | passed | furthest apart, of what is allowed |",
        "|---|---|---|",
    ]
    for job in dict.fromkeys(check["job"] for check in checks):
        of = [check for check in checks if check["job"] == job]
        shares = [check["apart"] / check["most"] for check in of if check.get("most") and check["passed"]]
        worst = f"{100 * max(shares):.0f} %" if shares else "equal"
        lines.append(f"| {job} | {sum(check['passed'] for check in of)} of {len(of)} | {worst} |")
    failed = [check for check in checks if not check["passed"]]
    if failed:
        lines += ["\nThose that failed:\n", "| check | apart | allowed |", "|---|---|---|"]
        for check in failed:
            apart = check["error"] if "error" in check else f"{check['apart']:.2e}"
            lines.append(f"| {_cell(check['what'])} | {_cell(apart)} | {check.get('most', '')} |")
    return "\n".join(lines) + "\n"


def _shares(data: dict[str, Any]) -> str:
    """The best and the least share of every form of a group: what stands below half of its ceiling."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in data["rows"]:
        if "share" in row and "group" in row:
            found.setdefault((row["group"], row.get("form", "")), []).append(row["share"])
    if not found:
        return ""
    lines = ["## Shares\n"]
    if drawable(data):
        lines.append("![operations a second over operations a byte, under the card's two ceilings](gpu.svg)\n")
    lines += ["| what | form | best share | least share | reaches half |", "|---|---|---|---|---|"]
    for (group, form), shares in found.items():
        half = "yes" if max(shares) >= 0.5 else "no"
        lines.append(f"| {group} | {form} | {100 * max(shares):.1f} % | {100 * min(shares):.1f} % | {half} |")
    return "\n".join(lines) + "\n"


def _groups(data: dict[str, Any]) -> str:
    rows = [row for row in data["rows"] if "ms" in row and "group" in row]
    parts = []
    for group in dict.fromkeys(row["group"] for row in rows):
        lines = [f"## {group[0].upper()}{group[1:]}\n"]
        lines += ["| what | time | rate | moved | done | share | bound by |", "|---|---|---|---|---|---|---|"]
        lines += [_line(row) for row in rows if row["group"] == group]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def _line(row: dict[str, Any]) -> str:
    seconds = row["ms"] / 1000
    moved = row.get("bytes") or row.get("link_bytes")
    cells = [_cell(row["what"]), _time(row["ms"]), _rate(row), f"{moved / seconds / 1e9:,.1f} GB/s" if moved else "",
             f"{row['flops'] / seconds / 1e12:,.2f} TFLOP/s" if "flops" in row else "",
             f"{100 * row['share']:.1f} %" if "share" in row else "", row.get("bound", "")]  # fmt: skip
    return "| " + " | ".join(cells) + " |"


def _rate(row: dict[str, Any]) -> str:
    if "rate" not in row:
        return ""
    if row["unit"] == "pages/s":
        return f"{86_400 * row['rate']:,.0f} pages a day"
    return f"{row['rate']:,.0f} {row['unit']}" if row["rate"] >= 10 else f"{row['rate']:.2f} {row['unit']}"


def _time(ms: float) -> str:
    return f"{ms:,.1f} ms" if ms >= 100 else f"{ms:.3g} ms" if ms >= 0.1 else f"{1000 * ms:.3g} µs"


def _overheads(data: dict[str, Any]) -> str:
    rows = [row for row in data["rows"] if "overhead" in row]
    if not rows:
        return ""
    lines = ["## What lanes and memory cost\n", "| what | more time | goal | met |", "|---|---|---|---|"]
    for row in rows:
        met = "yes" if row["overhead"] <= row["goal"] else "no"
        lines.append(f"| {_cell(row['what'])} | {100 * row['overhead']:.1f} % | {100 * row['goal']:.1f} % | {met} |")
    return "\n".join(lines) + "\n"


def _missing(data: dict[str, Any]) -> str:
    rows = [row for row in data["rows"] if "error" in row or "skipped" in row]
    if not rows:
        return ""
    lines = ["## What did not run\n", "| job | what | why |", "|---|---|---|"]
    lines += [f"| {row['job']} | {_cell(row['what'])} | {_cell(row.get('error') or row['skipped'])} |" for row in rows]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
