"""Parquet files and tables as rows: the same rows as in JSONL, and typed errors for what is none."""

from __future__ import annotations

import json
from datetime import datetime

import pyarrow as arrow
import pytest
from pyarrow import parquet

from dsv4 import EchoStudio, InputError
from dsv4.batch import read_rows, run_batch
from dsv4.limits import BATCH_LINE_BYTES


def write(path, columns: dict, **settings) -> str:
    parquet.write_table(arrow.table(columns), path, **settings)
    return str(path)


def test_columns_are_keys_and_empty_cells_are_left_out(tmp_path):
    columns = {"id": ["a", "b"], "task": ["svg", "image"], "prompt": ["x", "y"], "size": [None, 64], "seed": [3, None]}
    rows, digest = read_rows(write(tmp_path / "jobs.parquet", columns))
    assert [(row.id, row.task, dict(row.options), row.fault) for row in rows] == [
        ("a", "svg", {"seed": 3}, ""),
        ("b", "image", {"size": 64}, ""),
    ]
    assert read_rows(arrow.table(columns))[1] == digest


def test_a_batch_runs_from_parquet_with_pictures_inside(tmp_path, scene):
    images = arrow.array([[scene.read_bytes()], None], type=arrow.list_(arrow.binary()))
    columns = {"id": ["a", "b"], "task": ["chat"] * 2, "prompt": ["what?"] * 2, "images": images}
    path = write(tmp_path / "jobs.parquet", columns)
    for _ in range(2):  # the second time goes on from the first
        report = run_batch(EchoStudio(), path, out=tmp_path / "out")
    texts = [json.loads(line)["text"] for line in (tmp_path / "out" / "results.jsonl").open()]
    assert report.done == 2 and texts == ["[a picture of 96 x 64] what?", "what?"]


@pytest.mark.parametrize("as_text", [True, False])
def test_openai_rows_may_have_their_body_as_text_or_struct(tmp_path, as_text):
    body = {"prompt": "a tiger", "size": "64x64"}
    columns = {"custom_id": ["a"], "url": ["/v1/images/generations"], "body": [json.dumps(body) if as_text else body]}
    ((row,), _) = read_rows(write(tmp_path / "j.parquet", columns))
    assert (row.id, row.task, row.prompt, row.fault) == ("a", "image", "a tiger", "")


def test_dictionary_columns_are_read(tmp_path):
    task = arrow.array(["svg", "svg"]).dictionary_encode()
    rows, _ = read_rows(write(tmp_path / "j.parquet", {"id": ["a", "b"], "task": task, "prompt": ["x", "y"]}))
    assert [row.task for row in rows] == ["svg", "svg"]


def test_pandas_tables_are_rows():
    pandas = pytest.importorskip("pandas", reason="pandas comes with gradio, which is in the lock")
    frame = pandas.DataFrame({"id": ["a", "b"], "task": "svg", "prompt": ["x", None]})
    rows, _ = read_rows(frame)
    assert [(row.id, row.prompt) for row in rows] == [("a", "x"), ("b", "")]


def test_what_is_no_table_of_rows_is_a_typed_error(tmp_path):
    (tmp_path / "no.parquet").write_bytes(b"PAR1 these are words")
    with pytest.raises(InputError, match="not a Parquet file that can be read"):
        read_rows(tmp_path / "no.parquet")
    with pytest.raises(InputError, match="neither a column id nor custom_id; it has name, task"):
        read_rows(write(tmp_path / "wrong.parquet", {"name": ["a"], "task": ["svg"]}))
    with pytest.raises(InputError, match="row 1 cannot be written as JSON"):
        read_rows(write(tmp_path / "time.parquet", {"id": ["a"], "task": ["svg"], "when": [datetime(2026, 1, 1)]}))
    with pytest.raises(InputError, match="id must be a text"):
        read_rows(write(tmp_path / "numbers.parquet", {"id": [1, 2], "task": ["svg"] * 2}))
    with pytest.raises(InputError, match="there are no rows"):
        read_rows(write(tmp_path / "empty.parquet", {"id": arrow.array([], type=arrow.string())}))
    long = "x" * (BATCH_LINE_BYTES + 1)
    with pytest.raises(InputError, match="row 1 is longer than 8,000,000 bytes as JSON"):
        read_rows(write(tmp_path / "long.parquet", {"id": ["a"], "task": ["svg"], "prompt": [long]}))
    whole = (tmp_path / "long.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="not a Parquet file"):
        read_rows(tmp_path / "cut.parquet")


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    import sys

    path = write(tmp_path / "j.parquet", {"id": ["a"]})
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'dsv4-studio\[parquet\]'"):
        read_rows(path)
