"""Runs the batches of the server: each line is asked as the same request from outside would be, its answer kept once.

The ledger of `dsv4.batch` holds the lines, so a killed server goes on where it was: every row ends in exactly one line.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import shutil
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsv4.batch import Ledger
from dsv4.errors import InputError, unknown
from dsv4.limits import BATCH_ID_CHARACTERS, BATCH_LINE_BYTES, BATCH_ROWS

from .house import House
from .media import Asset
from .store import new_id

URLS = ("/v1/chat/completions", "/v1/images/generations", "/v1/videos", "/v1/readings")
IN_FLIGHT = 2  # rows of a batch that wait for the model at once: it never idles, and others get their turn
FAULTS = 50  # that are told
ACTIVE = ("validating", "in_progress", "finalizing", "cancelling")
Ask = Callable[
    [str, str, dict[str, Any]], Awaitable[tuple[int, dict[str, Any]]]
]  # (owner, url, body) → (status, answer)
log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the input."""

    line: int
    id: str
    url: str
    body: dict[str, Any]
    fault: str = ""


class Batches:
    """The batches of a house; `start` goes on with those that a dead server left."""

    def __init__(self, house: House, ask: Ask) -> None:
        self.house, self.store, self._ask = house, house.store, ask
        self.folder = house.store.folder / "batches"
        self.folder.mkdir(exist_ok=True)
        self._tasks: dict[str, asyncio.Task[None]] = {}

    def start(self) -> None:
        """Go on with what is not over."""
        marks = ",".join("?" * len(ACTIVE))
        for row in self.store.rows(f"SELECT id, owner FROM batch WHERE state IN ({marks}) ORDER BY seq", ACTIVE):
            self._launch(row["id"], row["owner"])

    async def close(self) -> None:
        """Stop where it is; the next start goes on."""
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def create(self, owner: str, asset: Asset, endpoint: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Begin a batch on an uploaded file; it is checked behind the answer."""
        name = new_id("batch")
        with self.store.change() as change:
            change.execute(
                "INSERT INTO batch (id, owner, state, endpoint, input, metadata, created) "
                "VALUES (?, ?, 'validating', ?, ?, ?, ?)",
                (name, owner, endpoint, asset.id, json.dumps(metadata), time.time()),
            )
        self._launch(name, owner)
        return self.get(name, owner)

    def get(self, name: str, owner: str) -> dict[str, Any]:
        """A batch of this owner; raises InputError when there is none."""
        row = self.store.row("SELECT * FROM batch WHERE id = ? AND owner = ?", (name, owner))
        if row is None:
            raise InputError(f"there is no batch '{name[:80]}'")
        return row

    def list(self, owner: str, limit: int = 100) -> list[dict[str, Any]]:
        """This owner's batches, newest first."""
        return self.store.rows("SELECT * FROM batch WHERE owner = ? ORDER BY seq DESC LIMIT ?", (owner, limit))

    def cancel(self, name: str, owner: str) -> dict[str, Any]:
        """Stop a batch; the rows in flight are finished, what is done is kept."""
        self.get(name, owner)
        self._set(name, only_in=ACTIVE, cancel=1, state="cancelling")
        return self.get(name, owner)

    def _launch(self, name: str, owner: str) -> None:
        task = asyncio.get_running_loop().create_task(self._run(name, owner))
        self._tasks[name] = task
        task.add_done_callback(lambda _: self._tasks.pop(name, None))

    async def _run(self, name: str, owner: str) -> None:
        try:
            batch = self.get(name, owner)
            path = self.house.media.get(batch["input"], owner).path
            rows, faults = await asyncio.to_thread(read_lines, path, batch["endpoint"])
            if faults:
                self._set(name, state="failed", faults=json.dumps(faults[:FAULTS]), ended=time.time())
                return
            self._set(name, only_in=("validating", "in_progress"), state="in_progress", total=len(rows))
            await self._work(name, owner, rows, path.stem)
        except InputError as error:
            fault = {"code": "invalid_file", "message": str(error), "line": None, "param": None}
            self._set(name, state="failed", faults=json.dumps([fault]), ended=time.time())
        except Exception:
            log.exception("batch %s", name)
            fault = {
                "code": "server_error",
                "message": "the studio broke; its log has the details",
                "line": None,
                "param": None,
            }
            self._set(name, state="failed", faults=json.dumps([fault]), ended=time.time())

    async def _work(self, name: str, owner: str, rows: list[Row], digest: str) -> None:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        with Ledger.create(folder, {"input": digest, "rows": str(len(rows))}) as ledger:
            left = [place for place in range(len(rows)) if place not in ledger.places()]
            self._count(name, ledger)
            flying: set[asyncio.Task[None]] = set()
            try:
                for place in left:
                    if self.get(name, owner)["cancel"]:
                        break
                    flying.add(asyncio.create_task(self._one(name, owner, place, rows[place], ledger)))
                    if len(flying) >= IN_FLIGHT:
                        done, flying = await asyncio.wait(flying, return_when=asyncio.FIRST_COMPLETED)
                        for one in done:
                            one.result()
                await asyncio.gather(*flying)
            finally:
                for one in flying:
                    one.cancel()
            self._finish(name, owner, ledger)
        shutil.rmtree(folder, ignore_errors=True)

    async def _one(self, name: str, owner: str, place: int, row: Row, ledger: Ledger) -> None:
        request = new_id("batch_req")
        status, body = (
            400,
            {"error": {"message": row.fault, "type": "invalid_request_error", "param": None, "code": "bad_line"}},
        )
        if not row.fault:
            status, body = await self._ask(owner, row.url, row.body)
        response = {"status_code": status, "request_id": request, "body": body}
        error = None if status == 200 else {"code": str(status), "message": body.get("error", {}).get("message", "")}
        line = {"id": request, "custom_id": row.id, "response": response, "error": error}
        ledger.add(place, json.dumps(line, ensure_ascii=False), failed=status != 200)
        self._count(name, ledger)

    def _count(self, name: str, ledger: Ledger) -> None:
        done, failed = ledger.counts()
        self._set(name, done=done, failed=failed)

    def _finish(self, name: str, owner: str, ledger: Ledger) -> None:
        self._set(name, only_in=("in_progress",), state="finalizing")
        cancelled = bool(self.get(name, owner)["cancel"])
        good, bad = self.house.media.work / f"{name}.out", self.house.media.work / f"{name}.err"
        with good.open("w", encoding="utf-8") as out, bad.open("w", encoding="utf-8") as err:
            for line in ledger.lines():
                (err if json.loads(line)["error"] else out).write(f"{line}\n")
        with self.store.change():
            named = {}
            for column, path in (("output", good), ("errors", bad)):
                if path.stat().st_size:
                    named[column] = self.house.media.keep(
                        path, owner=owner, name=f"{name}_{column}.jsonl", suffix=".jsonl", purpose="batch_output"
                    ).id
                path.unlink(missing_ok=True)
            self._set(name, state="cancelled" if cancelled else "completed", ended=time.time(), **named)

    def _set(self, name: str, *, only_in: tuple[str, ...] = (), **columns: Any) -> None:
        named = ", ".join(f"{column} = ?" for column in columns)
        where = f" AND state IN ({','.join('?' * len(only_in))})" if only_in else ""
        with self.store.change() as change:
            change.execute(f"UPDATE batch SET {named} WHERE id = ?{where}", (*columns.values(), name, *only_in))


def read_lines(path: Path, endpoint: str) -> tuple[list[Row], list[dict[str, Any]]]:
    """All rows, and the faults of the file as a whole with their lines; a fault of one row alone stays in the row."""
    rows: list[Row] = []
    faults: list[dict[str, Any]] = []
    lines_of: dict[str, int] = {}

    def fault(line: int | None, code: str, message: str) -> None:
        faults.append({"code": code, "message": message, "line": line, "param": None})

    for number, content in _lines(path):
        if len(rows) >= BATCH_ROWS:
            fault(number, "too_many_lines", f"more than {BATCH_ROWS:,} lines; split the file")
            break
        if len(content) > BATCH_LINE_BYTES:
            fault(number, "line_too_long", f"longer than {BATCH_LINE_BYTES:,} bytes")
            break
        name, row = _parse(number, content, endpoint)
        if name is None:
            fault(number, "invalid_custom_id", f"custom_id must be a text of 1 to {BATCH_ID_CHARACTERS} characters")
        elif name in lines_of:
            fault(number, "duplicate_custom_id", f"the custom_id '{name}' is on line {lines_of[name]} already")
        else:
            lines_of[name] = number
        rows.append(row)
    if not rows and not faults:
        fault(None, "empty_file", "there are no lines; write one JSON object a line")
    return rows, faults


def _parse(number: int, content: bytes, endpoint: str) -> tuple[str | None, Row]:
    from .api.body import parse
    from .api.errors import ApiError

    try:
        data = parse(content)
    except ApiError as error:
        return f"\0line {number}", Row(line=number, id="", url="", body={}, fault=error.message)
    name, body = data.get("custom_id"), data.get("body")
    if not isinstance(name, str) or not 0 < len(name) <= BATCH_ID_CHARACTERS:
        return None, Row(line=number, id="", url="", body={})
    url, why = data.get("url"), ""
    if data.get("method", "POST") != "POST" or url not in URLS:
        why = str(unknown("url", str(url)[:60], URLS)) if url not in URLS else "method must be POST"
    elif url != endpoint:
        why = f"this batch is for {endpoint}, the line says {url}"
    elif not isinstance(body, dict):
        why = "body must be a JSON object"
    elif body.get("stream"):
        why = "stream is not possible in a batch"
    return name, Row(line=number, id=name, url=str(url), body=body if isinstance(body, dict) else {}, fault=why)


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with contextlib.closing(path.open("rb")) as file:
        number = 0
        while content := file.readline(BATCH_LINE_BYTES + 2):
            number += 1
            stripped = (content.removeprefix(b"\xef\xbb\xbf") if number == 1 else content).strip()
            if stripped:
                yield number, stripped
