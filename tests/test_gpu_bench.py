"""The measuring program for cards: it counts right, hides nothing, goes on behind what breaks, and shows a run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench.gpu_parts import book as books  # noqa: E402 - a folder of programs, not an installed package
from bench.gpu_parts import formulas  # noqa: E402
from bench.gpu_parts.card import Card  # noqa: E402
from bench.gpu_parts.page import page  # noqa: E402
from bench.gpu_parts.plot import roofline  # noqa: E402


def run(python: str, environment: dict[str, str], *args: str) -> subprocess.CompletedProcess[str]:
    command = [python, str(ROOT / "bench" / "gpu.py"), *args]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


def test_a_rehearsal_checks_measures_and_shows(python, python_environment, tmp_path):
    only = "ceilings,check-ranked,check-row-kernels,check-sparse,check-rows,decode,rows,ranking,training-compiled"
    done = run(python, python_environment, "--out", str(tmp_path), "--rehearse", "--minutes", "2", "--only", only)
    log = (tmp_path / "log.txt").read_text()
    assert done.returncode == 0, done.stderr + log
    data = json.loads((tmp_path / "gpu.json").read_text())
    assert list(data["jobs"]) == only.split(",") and all(job["state"] == "done" for job in data["jobs"].values())
    assert len(data["checks"]) > 10 and all(check["passed"] for check in data["checks"]), log
    kernels = [row for row in data["rows"] if row["job"] == "decode" and row.get("form") == "Triton"]
    assert kernels and all(row["ms"] > 0 and 0 < row["share"] for row in kernels)
    assert not [row for row in data["rows"] if "error" in row]
    text = (tmp_path / "gpu.md").read_text()
    assert "Rehearsed with tiny sizes" in text and f"{len(data['checks'])} of {len(data['checks'])} checks" in text
    assert "training-compiled" in text.split("What did not run")[1]
    assert "| sparse attention, decode | Triton |" in text and "](gpu.svg)" in text
    plot = ("--plot", str(tmp_path / "gpu.json"), "-o", str(tmp_path / "again.svg"))
    assert run(python, python_environment, *plot).returncode == 0
    assert (tmp_path / "again.svg").read_text() == (tmp_path / "gpu.svg").read_text()
    dots = ET.fromstring((tmp_path / "gpu.svg").read_text()).iter("{http://www.w3.org/2000/svg}circle")
    drawn = [row for row in data["rows"] if row.get("bytes") and row.get("flops") and "ms" in row]
    assert len(list(dots)) == len(drawn) + len({row["group"] for row in drawn if "group" in row})


def test_the_time_is_kept(python, python_environment, tmp_path):
    started = time.time()
    done = run(python, python_environment, "--out", str(tmp_path), "--rehearse", "--minutes", "0.12")
    assert done.returncode == 0 and time.time() - started < 10
    data = json.loads((tmp_path / "gpu.json").read_text())
    skipped = [row for row in data["rows"] if row.get("skipped") == "no time was left"]
    assert skipped and {row["job"] for row in data["rows"]} | set(data["jobs"]) >= set(data["meta"]["order"])


@pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="finds the worker by /proc")
def test_a_worker_that_dies_takes_one_job_with_it(python, python_environment, tmp_path):
    command = [python, str(ROOT / "bench" / "gpu.py"), "--out", str(tmp_path), "--rehearse", "--minutes", "1.5"]
    parent = subprocess.Popen([*command, "--only", "check-lanes,check-rows"], env=python_environment)
    while "check-lanes" not in books.read(tmp_path / "gpu.json")["jobs"]:
        assert parent.poll() is None
        time.sleep(0.05)
    (worker,) = Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text().split()
    os.kill(int(worker), signal.SIGKILL)
    assert parent.wait(90) == 0
    data = books.read(tmp_path / "gpu.json")
    assert {name: job["state"] for name, job in data["jobs"].items()} == {"check-lanes": "ended", "check-rows": "done"}
    assert [row["error"] for row in data["rows"]] == ["its process ended with status -9"]
    assert [check["passed"] for check in data["checks"] if check["job"] == "check-rows"] == [True] * 8


def test_wishes_that_cannot_be(python, python_environment, tmp_path):
    done = run(python, python_environment, "--out", str(tmp_path), "--only", "decod")
    assert done.returncode == 2 and "did you mean 'decode'?" in done.stderr
    assert "--out DIR is needed" in run(python, python_environment).stderr


def test_what_fails_hides_nothing(tmp_path):
    book = books.Book(tmp_path / "gpu.json", ends=time.time() + 60)

    def breaks() -> float:
        raise RuntimeError("out of something")

    with book.working("one"):
        assert book.timed("breaks", breaks) is None
        book.check("wrong", lambda: (0.5, 0.1))
        book.check("no number", lambda: (float("nan"), 0.1))
        book.check("raises", lambda: (breaks(), 0.1))
        assert book.timed("works", lambda: 0.5, bytes=10, per=(4, "tokens")) == 0.5
        raise ValueError("cannot be set up")
    book.ends = time.time()
    book.timed("late", lambda: 1.0)
    data = books.read(tmp_path / "gpu.json")
    assert [row.get("error") for row in data["rows"]] == ["RuntimeError: out of something", None,
                                                          "ValueError: cannot be set up", None]  # fmt: skip
    assert data["rows"][1]["rate"] == 8 and data["rows"][1]["ms"] == 500 and "skipped" in data["rows"][3]
    assert [check["passed"] for check in data["checks"]] == [False] * 3
    text = page(data)
    assert "**0 of 3 checks passed.**" in text and "out of something" in text and "| wrong | 5.00e-01 | 0.1 |" in text
    with pytest.raises(ValueError, match="needs both ceilings"):
        roofline(data)


def test_a_share_is_of_the_nearest_ceiling(tmp_path):
    book = books.Book(tmp_path / "gpu.json", ends=time.time() + 60)
    book.data["ceilings"] = {"copy": 100.0, "products": 1000.0, "link": 10.0}
    assert book.figures(2.0, 100, 500, 0) == {"ms": 2000, "bytes": 100, "flops": 500, "share": 0.5, "bound": "memory"}
    assert book.figures(2.0, 1, 1000, 0)["bound"] == "products"
    assert book.figures(4.0, 1, 0, 20) == {"ms": 4000, "bytes": 1, "link_bytes": 20, "share": 0.5, "bound": "link"}


def test_a_card_that_broke_ends_the_worker(tmp_path):
    def probe() -> None:
        raise RuntimeError("an illegal address")

    book = books.Book(tmp_path / "gpu.json", ends=time.time() + 60, probe=probe)
    with pytest.raises(books.CardBroken), book.working("one"):
        book.timed("breaks", lambda: 1 / 0)
    assert books.read(tmp_path / "gpu.json")["jobs"]["one"]["state"] == "card broken"


def test_operations_are_those_that_torch_counts():
    from generation import head as heads
    from vision import DeepEncoder, DeepEncoderConfig

    card = Card("cpu", tiny=True, seed=0)
    config = heads.micro()
    head = heads.JointHead(config).eval()
    told, mask = card.normal(2, 12, 32, dtype=torch.float32), torch.ones(2, 12, dtype=torch.bool)
    eyes = DeepEncoder(DeepEncoderConfig.micro()).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):  # the counter does not know the processor's own kernel
        with FlopCounterMode(display=False) as counted:
            head(torch.randn(2, 3, 4, 64, 64), torch.rand(2), told, mask)
        assert 0.93 < formulas.head(config, 2, 4, 64, 12) / counted.get_total_flops() <= 1.0
        with FlopCounterMode(display=False) as counted:
            eyes.grid(torch.rand(1, 3, 256, 256))
    # Folded positions cost products that the formula leaves out: they are our way, not what must be done.
    assert 0.6 < formulas.eyes(eyes.config, 256) / counted.get_total_flops() <= 1.0


def test_operations_of_attention_and_experts():
    q, k = torch.randn(3, 5, 7), torch.randn(3, 11, 7)
    with FlopCounterMode(display=False) as counted:
        torch.bmm(torch.bmm(q, k.mT), k)
    assert counted.get_total_flops() == formulas.attention(5, 11, 3, 7)
    assert formulas.experts(2, 2, 3, 4, 5, 6) == 2 * (6 * 5 * (2 * 3 + 4) + 2 * 5 * 6)
    assert formulas.experts_bytes(1, 2, 3, 4, 5, 6) == 2 * 3 * 5 * (2 * 3 + 4) + 4 * 5
    assert formulas.experts_bytes(9, 2, 3, 4, 5, 6) == 2 * 3 * 5 * (6 * 3 + 4) + 9 * 4 * 5


def test_without_a_card_it_says_so(python, python_environment, tmp_path):
    if torch.cuda.is_available():
        environment = python_environment | {"CUDA_VISIBLE_DEVICES": ""}
    else:
        environment = dict(os.environ) | python_environment
    done = run(python, environment, "--out", str(tmp_path), "--only", "ceilings")
    assert done.returncode == 1 and "no CUDA card is here" in (tmp_path / "log.txt").read_text()
