"""A batch ends in the same bytes, whatever happened on the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from dsv4 import EchoStudio, InputError
from dsv4.batch import batch_status, run_batch
from dsv4.batch.work import safe_name


def rows(count: int) -> list[dict]:
    """Rows of every task, in turn, with one in ten that cannot be run."""
    made = []
    for index in range(count):
        task = ("chat", "svg", "image", "video")[index % 4]
        row = {"id": f"row-{index}", "task": task, "prompt": f"thing number {index}", "seed": index}
        if task == "video":
            row["seconds"] = 0.5
        if index % 10 == 9:
            row["prompt"] = " "
        made.append(row)
    return made


def write(path: Path, made: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in made))
    return path


def results(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def content(out: Path) -> dict[str, bytes]:
    """Every result file with its bytes; the ledger is the runner's own affair."""
    paths = [out / "results.jsonl", *sorted((out / "files").iterdir())]
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def test_every_row_has_one_line_in_order_and_its_file(tmp_path):
    report = run_batch(EchoStudio(), rows(20), out=tmp_path / "out")
    assert (report.done, report.failed, report.total, report.complete) == (18, 2, 20, True)
    lines = results(tmp_path / "out")
    assert [line["id"] for line in lines] == [f"row-{index}" for index in range(20)]
    assert lines[0]["text"] == "thing number 0"
    assert lines[9] == {
        "id": "row-9",
        "line": 10,
        "task": "svg",
        "ok": False,
        "error": "the prompt is empty; write what you want, for example 'red heart icon'",
        "code": "invalid_request",
        "attempts": 1,
    }
    files = {line["file"] for line in lines if "file" in line}
    assert files == {f"files/{path.name}" for path in (tmp_path / "out" / "files").iterdir()}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "files",
        "ledger.lock",
        "ledger.sqlite",
        "results.jsonl",
    ]


def test_pictures_are_found_beside_the_file_of_rows(tmp_path, scene):
    made = [
        {"id": "a", "task": "chat", "prompt": "what?", "images": ["scene.png"]},
        {"id": "b", "task": "video", "prompt": "go", "images": ["scene.png"], "seconds": 0.5},
        {"id": "c", "task": "chat", "prompt": "what?", "images": ["none.png"]},
    ]
    run_batch(EchoStudio(), write(tmp_path / "jobs.jsonl", made), out=tmp_path / "out")
    one, two, three = results(tmp_path / "out")
    assert one["text"] == "[a picture of 96 x 64] what?"
    assert two["file"] == "files/b.mp4"
    assert "no picture at" in three["error"]


def test_an_interrupted_batch_goes_on_and_ends_in_the_same_bytes(tmp_path):
    made = rows(24)
    run_batch(EchoStudio(), made, out=tmp_path / "whole")
    seen = []
    part = run_batch(EchoStudio(), made, out=tmp_path / "parts", on_row=seen.append, cancelled=lambda: len(seen) == 7)
    assert (part.done + part.failed, part.complete) == (7, False)
    assert [line["id"] for line in results(tmp_path / "parts")] == [f"row-{index}" for index in range(7)]
    assert batch_status(tmp_path / "parts") == part
    run_batch(EchoStudio(), made, out=tmp_path / "parts", on_row=seen.append)
    assert len(seen) == 24
    assert content(tmp_path / "parts") == content(tmp_path / "whole")


def test_a_finished_batch_runs_nothing_again(tmp_path):
    class Broken(EchoStudio):
        def chat(self, *given, **settings):
            raise AssertionError("this row was done")

        svg = image = video = chat

    run_batch(EchoStudio(), rows(8), out=tmp_path / "out")
    before = content(tmp_path / "out")
    assert run_batch(Broken(), rows(8), out=tmp_path / "out").done == 8
    assert content(tmp_path / "out") == before


def test_changed_rows_or_another_model_are_refused(tmp_path, scene):
    class Other(EchoStudio):
        fingerprint = "echo-2"

    made = [*rows(4), {"id": "p", "task": "chat", "prompt": "x", "images": ["scene.png"]}]
    jobs = write(tmp_path / "jobs.jsonl", made)
    run_batch(EchoStudio(), jobs, out=tmp_path / "out")
    before = content(tmp_path / "out")
    with pytest.raises(InputError, match="begun with another model"):
        run_batch(Other(), jobs, out=tmp_path / "out")
    scene.write_bytes(scene.read_bytes() + b"\0")
    with pytest.raises(InputError, match="begun with another input"):
        run_batch(EchoStudio(), jobs, out=tmp_path / "out")
    with pytest.raises(InputError, match="begun with another input"):
        run_batch(EchoStudio(), rows(3), out=tmp_path / "out")
    assert content(tmp_path / "out") == before


def test_only_failed_rows_run_again_when_asked(tmp_path):
    class Mended(EchoStudio):
        calls = 0

        def svg(self, prompt, **settings):
            Mended.calls += 1
            return super().svg(prompt.strip() or "mended", **settings)

    run_batch(EchoStudio(), rows(12), out=tmp_path / "out")
    report = run_batch(Mended(), rows(12), out=tmp_path / "out", retry_failed=True)
    assert (report.done, report.failed, Mended.calls) == (12, 0, 1)
    assert results(tmp_path / "out")[9]["ok"] is True


def test_a_fault_of_ours_costs_its_rows_and_is_mended_by_another_run(tmp_path):
    class Faulty(EchoStudio):
        calls = 0

        def image(self, *given, **settings):
            Faulty.calls += 1
            raise MemoryError("too large")

    report = run_batch(Faulty(), rows(8), out=tmp_path / "out")
    assert (report.done, report.failed, Faulty.calls) == (6, 2, 4)  # each is tried once more
    bad = results(tmp_path / "out")[2]
    assert (bad["error"], bad["code"], bad["attempts"]) == ("MemoryError: too large", "internal", 2)
    assert run_batch(Faulty(), rows(8), out=tmp_path / "out", retry_failed=True).failed == 2
    assert results(tmp_path / "out")[2]["attempts"] == 4
    run_batch(EchoStudio(), rows(8), out=tmp_path / "out", retry_failed=True)
    run_batch(EchoStudio(), rows(8), out=tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_disk_that_takes_no_more_stops_the_run_and_loses_nothing(tmp_path):
    class Full(EchoStudio):
        def image(self, *given, **settings):
            raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        run_batch(Full(), rows(8), out=tmp_path / "out")
    assert batch_status(tmp_path / "out").done == 2
    run_batch(EchoStudio(), rows(8), out=tmp_path / "out")
    run_batch(EchoStudio(), rows(8), out=tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_two_runs_into_one_folder_are_refused(tmp_path):
    def inside(report):
        if report.done == 1:
            with pytest.raises(InputError, match=rf"another process is running the batch .*\(process {os.getpid()}\)"):
                run_batch(EchoStudio(), rows(4), out=tmp_path / "out")

    assert run_batch(EchoStudio(), rows(4), out=tmp_path / "out", on_row=inside).done == 4


def test_folders_that_are_not_ours_are_refused(tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "diary.txt").write_text("dear")
    with pytest.raises(InputError, match="holds other files"):
        run_batch(EchoStudio(), rows(2), out=tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["diary.txt"]
    with pytest.raises(InputError, match="cannot use"):
        run_batch(EchoStudio(), rows(2), out=tmp_path / "full" / "diary.txt")
    with pytest.raises(InputError, match="no batch was run"):
        batch_status(tmp_path / "full")


def test_one_broken_line_costs_one_row(tmp_path):
    path = write(tmp_path / "jobs.jsonl", rows(4))
    path.write_text(path.read_text() + "{broken\n")
    report = run_batch(EchoStudio(), path, out=tmp_path / "out")
    assert (report.done, report.failed) == (4, 1)
    last = results(tmp_path / "out")[-1]
    assert (last["id"], last["line"], last["ok"]) == (None, 5, False)


def test_names_of_files_are_harmless_and_distinct():
    ids = ["../../x", "con", "COM1", "a/b", "a\\b", "A", "a", "x" * 200, "é", "e\u0301", "\0", ".hta", "a b", "a.b"]
    names = [safe_name(one) for one in ids]
    assert len({name.lower() for name in names}) == len(ids)
    assert all(len(name) < 70 and not set(name) & set('/\\:*?"<>|\0 ') and name[0] != "." for name in names)
    assert safe_name("a") == "a" and safe_name("con") != "con"
