"""The fast paths on a GPU: checked against their references there, then timed, each as a share of the card's ceilings.

    python bench/gpu.py --out DIR [--minutes 9] [--only decode,flex]    check and measure, within so many minutes
    python bench/gpu.py --out DIR --rehearse                            the same with tiny sizes on the processor
    python bench/gpu.py --plot DIR/gpu.json [-o docs/gpu.svg]           the roofline
    python bench/gpu.py --page DIR/gpu.json [-o docs/gpu.md]            the page of a real run

DIR/gpu.json is written after every figure, DIR/gpu.md and DIR/gpu.svg at the end. The work is done by a child process,
since a kernel that goes wrong takes the card's whole process with it: then the next child goes on behind that job.
"""

from __future__ import annotations

import argparse
import difflib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the packages of this checkout need not be installed

from bench.gpu_parts.book import BROKEN, Book, CardBroken, read, write  # noqa: E402 - found through the line above
from bench.gpu_parts.jobs import JOBS  # noqa: E402

LEAVE = 3.0  # seconds at the end for writing


def main(argv: list[str] | None = None) -> int:
    """Run what is asked for; 0 also where checks failed, since they are results: the last line says how many."""
    args = _arguments(argv)
    if args.plot:
        from bench.gpu_parts.plot import roofline

        target = args.target or args.plot.with_suffix(".svg")
        target.write_text(roofline(read(args.plot)), encoding="utf-8")
        print(target)
        return 0
    if args.page:
        from bench.gpu_parts.page import page

        target = args.target or args.page.with_suffix(".md")
        target.write_text(page(read(args.page)) + _by_hand(target), encoding="utf-8")
        return 0
    if args.worker:
        return _work(args)
    return _supervise(args)


def _by_hand(target: Path) -> str:
    """The chapter of a page that people write, which a new run keeps."""
    _, found, rest = (target.read_text(encoding="utf-8") if target.exists() else "").partition("\n## What was tried\n")
    return found + rest


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder for gpu.json and gpu.md; what is in it already is done again")
    parser.add_argument("--minutes", type=float, default=9.0, help="the program ends after so many (default 9)")
    parser.add_argument("--only", metavar="JOBS", help="only these jobs, with commas between; 'checks' is all checks")
    parser.add_argument("--rehearse", action="store_true", help="tiny sizes on the processor, Triton interpreted")
    parser.add_argument("--seed", type=int, help="of the random inputs; another each time without it")
    parser.add_argument("--host-gib", type=int, default=0, help="host memory, where the system shows less at first")
    parser.add_argument("--list", action="store_true", help="print the names of all jobs")
    parser.add_argument("--plot", type=Path, metavar="JSON", help="draw the roofline of a run")
    parser.add_argument("--page", type=Path, metavar="JSON", help="write the page of a run")
    parser.add_argument("-o", dest="target", type=Path, metavar="FILE", help="where --page or --plot writes")
    parser.add_argument("--worker", type=float, metavar="ENDS", help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.list:
        parser.exit(message="\n".join(JOBS) + "\n")
    if not (args.out or args.plot or args.page):
        parser.error("--out DIR is needed to run, --plot or --page to show a run")
    if args.minutes <= 0:
        parser.error(f"--minutes must be above zero, got {args.minutes:g}")
    args.jobs = _chosen(parser, args.only)
    return args


def _chosen(parser: argparse.ArgumentParser, only: str | None) -> list[str]:
    if only is None:
        return list(JOBS)
    chosen: list[str] = []
    for name in only.split(","):
        found = [known for known in JOBS if known == name or (name == "checks" and known.startswith("check-"))]
        if not found:
            near = difflib.get_close_matches(name, JOBS, n=1)
            parser.error(f"unknown job '{name}'; " + (f"did you mean '{near[0]}'?" if near else "see --list"))
        chosen += found
    return chosen


def _supervise(args: argparse.Namespace) -> int:
    """Start workers until all jobs had their turn or the time is up."""
    started, ends = time.time(), time.time() + 60 * args.minutes
    args.out.mkdir(parents=True, exist_ok=True)
    path = args.out / "gpu.json"
    path.unlink(missing_ok=True)
    seed = args.seed if args.seed is not None else int.from_bytes(os.urandom(4), "little") % 2**31
    environment = os.environ | {"PYTHONUNBUFFERED": "1", "DSV4_TRITON": "1", "DSV4_REPLAY": "1", "DSV4_GROUPED": "1"}
    if args.rehearse:
        environment |= {"TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    while True:
        data = read(path)
        todo = [name for name in args.jobs if name not in data["jobs"]]
        if not todo or ends - time.time() < LEAVE:
            break
        command = [sys.executable, str(Path(__file__).resolve()), "--out", str(args.out), "--worker", str(ends)]
        command += ["--only", ",".join(todo), "--seed", str(seed)] + ["--rehearse"] * args.rehearse
        command += ["--host-gib", str(args.host_gib)]
        with open(args.out / "log.txt", "a", encoding="utf-8") as log:
            worker = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            why = _watch(worker, path, ends)
        if worker.returncode == 0 and not why:
            break
        if not _bury(path, worker, why):
            print(f"the worker ended before its first job; see {args.out / 'log.txt'}", file=sys.stderr)
            return 1
    data = read(path)
    for name in args.jobs:
        if name not in data["jobs"]:
            data["rows"].append({"job": name, "what": "(whole job)", "skipped": "no time was left"})
    data["meta"]["seconds"] = round(time.time() - started, 1)
    data["meta"]["order"] = [name for name in JOBS if name in args.jobs]
    write(path, data)
    return _told(args.out, data)


def _watch(worker: subprocess.Popen[bytes], path: Path, ends: float) -> str:
    """Wait for the worker; why it was ended, empty where it ended itself."""
    while worker.poll() is None:
        try:
            time.sleep(0.2)
        except BaseException:  # interrupted: the worker has a session of its own and would go on
            os.killpg(worker.pid, signal.SIGKILL)
            raise
        why = "the time was up" if time.time() > ends - LEAVE else ""
        for name, state in read(path)["jobs"].items():
            if state["state"] == "running" and time.time() - state["started"] > JOBS[name].most:
                why = f"it took more than {JOBS[name].most} seconds"
        if why:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
            return why
    return ""


def _bury(path: Path, worker: subprocess.Popen[bytes], why: str) -> bool:
    """Note what became of the job that ran when a worker ended; False where none had begun or broke the card."""
    data = read(path)
    known = False
    for name, state in data["jobs"].items():
        if state["state"] in ("running", "card broken"):
            known = True
            text = why or f"its process ended with status {worker.returncode}"
            if state["state"] == "running":
                data["rows"].append({"job": name, "what": "(whole job)", "error": text})
                state["seconds"] = round(time.time() - state["started"], 1)
            state["state"] = "ended"
    write(path, data)
    return known or bool(why)


def _told(out: Path, data: dict) -> int:
    from bench.gpu_parts.page import page
    from bench.gpu_parts.plot import drawable, roofline

    (out / "gpu.md").write_text(page(data), encoding="utf-8")
    if drawable(data):
        (out / "gpu.svg").write_text(roofline(data), encoding="utf-8")
    failed = [check for check in data["checks"] if not check["passed"]]
    for check in failed:
        print(f"FAILED {check['what']}: {check.get('error') or check.get('apart')}")
    rows = data["rows"]
    words = [f"{len(data['checks']) - len(failed)} checks passed, {len(failed)} failed"]
    words.append(f"{sum('ms' in row for row in rows)} figures")
    for key, word in (("error", "errors"), ("skipped", "skipped")):
        words.append(f"{sum(key in row for row in rows)} {word}")
    print(f"{', '.join(words)}; {data['meta']['seconds']:.0f} s; {out / 'gpu.json'}")
    return 0


def _work(args: argparse.Namespace) -> int:
    """Do jobs in turn, as the child."""
    if args.rehearse:
        import torch

        torch.set_num_threads(1)
    from bench.gpu_parts.card import Card, facts

    if not args.rehearse:
        _needs_cuda()
    device = "cpu" if args.rehearse else "cuda"
    card = Card(device, tiny=args.rehearse, seed=args.seed, host_bytes=args.host_gib * 2**30)
    book = Book(args.out / "gpu.json", ends=args.worker - LEAVE, probe=card.wait)
    if not book.data["meta"]:
        book.data["meta"] = facts(card)
    for name in args.jobs:
        job = JOBS[name]
        try:
            with book.working(name):
                if book.left() < (1 if card.tiny else job.usual):
                    book.add("(whole job)", skipped=f"{book.left():.0f} s were left, it usually takes {job.usual}")
                else:
                    job.run(card, book)
        except CardBroken as broken:
            print(broken, flush=True)
            return BROKEN
        card.tidy()
    return 0


def _needs_cuda() -> None:
    if importlib.util.find_spec("torch") is None:
        raise SystemExit("torch is not installed")
    import torch

    if not torch.cuda.is_available():
        raise SystemExit("no CUDA card is here; --rehearse runs tiny sizes on the processor")


if __name__ == "__main__":
    raise SystemExit(main())
