"""Rows are read as people write them, and every fault is named with its line."""

from __future__ import annotations

import json

import pytest

from dsv4.batch.jobs import read_rows
from dsv4.errors import InputError
from dsv4.limits import BATCH_LINE_BYTES

GOOD = {"id": "a", "task": "svg", "prompt": "red heart icon"}


def write(path, *lines: str) -> str:
    path.write_text("\n".join(lines))
    return str(path)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"id": "a", "task": "svg", "prompt": "x"}\n{"id": "b", "task": "svg", "prompt": "y"}\n',
        b'{"id": "a", "task": "svg", "prompt": "x"}\n{"id": "b", "task": "svg", "prompt": "y"}',
        b'{"id": "a", "task": "svg", "prompt": "x"}\r\n\r\n{"id": "b", "task": "svg", "prompt": "y"}\r\n',
        b'\xef\xbb\xbf{"id": "a", "task": "svg", "prompt": "x"}\n\n   \n{"id": "b", "task": "svg", "prompt": "y"}\n\n',
    ],
)
def test_line_ends_marks_and_blank_lines_do_not_matter(tmp_path, raw):
    path = tmp_path / "jobs.jsonl"
    path.write_bytes(raw)
    rows, _ = read_rows(path)
    assert [(row.id, row.prompt, row.fault) for row in rows] == [("a", "x", ""), ("b", "y", "")]


def test_line_numbers_count_blank_lines(tmp_path):
    rows, _ = read_rows(write(tmp_path / "j", "", json.dumps(GOOD), "", json.dumps({**GOOD, "id": "b"})))
    assert [row.line for row in rows] == [2, 4]


def test_ids_given_twice_refuse_everything_and_name_both_lines(tmp_path):
    lines = [json.dumps({**GOOD, "id": name}) for name in ("a", "b", "a", "b")]
    with pytest.raises(InputError) as caught:
        read_rows(write(tmp_path / "j", *lines))
    assert str(caught.value).splitlines() == [
        "line 3: the id 'a' is on line 1 already",
        "line 4: the id 'b' is on line 2 already",
    ]


@pytest.mark.parametrize("name", [None, 7, "", "  ", "x" * 10_000, ["a"]])
def test_an_id_that_is_no_name_refuses_everything(tmp_path, name):
    with pytest.raises(InputError, match="^line 2: id must be a text of 1 to 200 characters$"):
        read_rows(write(tmp_path / "j", json.dumps(GOOD), json.dumps({**GOOD, "id": name})))


ROW_FAULTS = [
    ({"task": "svgg"}, "unknown task 'svgg'; did you mean 'svg'"),
    ({"task": None}, "unknown task"),
    ({"task": ["svg"]}, "unknown task"),
    ({"prompt": 7}, "prompt must be text"),
    ({"images": "a.png"}, "images must be a list of paths"),
    ({"images": ["a.png"]}, "task svg takes no images"),
    ({"task": "video", "images": ["a.png", "b.png"]}, "at most 1 image, got 2"),
    ({"sed": 3}, "unknown key in a row of task svg 'sed'; did you mean 'seed'"),
    ({"stream": True}, "unknown key"),
    ({"size": 128}, "unknown key"),
]


@pytest.mark.parametrize(("change", "says"), ROW_FAULTS)
def test_any_other_fault_stays_in_its_row(tmp_path, change, says):
    rows, _ = read_rows(write(tmp_path / "j", json.dumps({**GOOD, "id": "x", **change}), json.dumps(GOOD)))
    assert rows[0].id == "x" and says in rows[0].fault
    assert rows[1].fault == ""


@pytest.mark.parametrize("line", ["{", "[1]", "7", '{"id": NaN}', "[" * 100_000, '{"id": "a"} {"id": "b"}', "\ufffe"])
def test_what_is_not_json_is_a_row_with_a_fault(tmp_path, line):
    rows, _ = read_rows(write(tmp_path / "j", line, json.dumps(GOOD)))
    assert [bool(row.fault) for row in rows] == [True, False]
    assert rows[0].id == ""


def test_a_line_without_end_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "j"
    path.write_bytes(b"x" * (BATCH_LINE_BYTES + 1))
    with pytest.raises(InputError, match="line 1 is longer than 8,000,000 bytes"):
        read_rows(path)


def test_nothing_to_do_is_refused(tmp_path):
    with pytest.raises(InputError, match="no file of rows"):
        read_rows(tmp_path / "none")
    with pytest.raises(InputError, match="no rows"):
        read_rows(write(tmp_path / "j", "", "  "))
    with pytest.raises(InputError, match="no rows"):
        read_rows([])


def test_rows_can_be_values(tmp_path):
    rows, digest = read_rows(iter([GOOD, {**GOOD, "id": "b"}]))
    assert [row.id for row in rows] == ["a", "b"]
    assert digest == read_rows([GOOD, {**GOOD, "id": "b"}])[1]
    with pytest.raises(InputError, match="row 1 must be a mapping, got str"):
        read_rows(["a"])
    with pytest.raises(InputError, match="row 1 cannot be written as JSON"):
        read_rows([{"id": "a", "seed": float("nan")}])


def test_the_digest_sees_rows_and_pictures(tmp_path, scene):
    path = tmp_path / "jobs.jsonl"
    write(path, json.dumps({"id": "a", "task": "chat", "prompt": "x", "images": ["scene.png"]}))
    rows, digest = read_rows(path)
    assert rows[0].pictures == (scene,)
    assert read_rows(path)[1] == digest
    scene.write_bytes(scene.read_bytes() + b"\0")
    changed = read_rows(path)[1]
    scene.unlink()
    missing = read_rows(path)[1]
    assert len({digest, changed, missing}) == 3
