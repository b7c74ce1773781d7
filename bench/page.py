"""How soon the page can be used: from the server's answer to a box that takes words, in a real browser, nothing cached.

Run `python bench/page.py [--runs 5] [--model nano]`. Each run starts a server of its own on an empty folder and a fresh
browser; the page counts as usable when what was typed stands in its box and the model's state is shown. Seconds of the
processor are those of the server's own process and of the whole browser in that time: on a busy machine they say more
than the clock. Needs a Chromium and Playwright (the extra `dev`). Status 1 when the goal is missed on the clock.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

GOAL = 2.0  # seconds on the clock, from the moment that the server says that it answers
CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]


def spent(pids: set[int]) -> float:
    """Seconds of the processor that these processes have used."""
    total = 0
    for pid in pids:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def below(pid: int) -> set[int]:
    """A process and all that it started."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found


def visit(browser: Any, address: str, server: int) -> tuple[float, float, float, float, str, int]:
    """Seconds until the page is drawn, until it takes words, of the processor (server, browser); state; requests."""
    page = browser.new_context(viewport={"width": 1240, "height": 900}).new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    served, browsed = spent({server}), spent(below(os.getpid()) - below(server))
    begun = time.perf_counter()
    page.goto(address, wait_until="commit")
    page.get_by_role("tab", name="Chat").wait_for()
    drawn = time.perf_counter() - begun
    box = page.get_by_placeholder("Ask something, or")
    box.fill("What is a heron?")
    page.wait_for_function("[...document.querySelectorAll('textarea')].some(one => one.value === 'What is a heron?')")
    state = page.locator("#state .pill").get_attribute("class") or ""
    usable = time.perf_counter() - begun
    served = spent({server}) - served
    browsed = spent(below(os.getpid()) - below(server)) - browsed
    page.context.close()
    return drawn, usable, served, browsed, state.replace("pill", "").strip(), len(asked)


def one_run(playwright: Any, path: str, model: str) -> tuple[float, float, float, float, float, str, int]:
    """Start, visit, end: seconds to the first answer of the server, then as `visit`."""
    with tempfile.TemporaryDirectory() as home:
        command = [sys.executable, "-m", "dsv4", "serve", "--port", "0", "--model", model, "--home", home]
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS, headless=True)
        begun = time.perf_counter()
        child = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        try:
            assert child.stdout is not None
            line = next(line for line in child.stdout if line.startswith("Open http"))
            started = time.perf_counter() - begun
            return started, *visit(browser, line.split()[1], child.pid)
        finally:
            child.terminate()
            child.wait()
            browser.close()


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--model", default="nano")
    args = parser.parse_args()
    path = next((found for name in CHROMIUM if (found := shutil.which(name))), None)
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        path = None
    if path is None:
        print(f"needs Playwright and one of: {', '.join(CHROMIUM)}", file=sys.stderr)
        return 2
    with sync_playwright() as playwright:
        runs = [one_run(playwright, path, args.model) for _ in range(args.runs)]
    started, drawn, usable, served, browsed = (statistics.median(one) for one in list(zip(*runs, strict=True))[:5])
    least, most = min(run[2] for run in runs), max(run[2] for run in runs)
    print(f"server answers   {started:.2f} s after its start")
    print(f"page is drawn    {drawn:.2f} s after that")
    print(f"page takes words {usable:.2f} s after that ({least:.2f} to {most:.2f}; goal {GOAL} s)")
    print(f"of the processor {served:.2f} s in the server, {browsed:.2f} s in the browser")
    print(f"the model was    {', '.join(sorted({run[5] for run in runs}))}; {runs[0][6]} requests")
    return int(usable > GOAL)


if __name__ == "__main__":
    sys.exit(main())
