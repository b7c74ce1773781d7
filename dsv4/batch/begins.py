"""Rows that begin with what an earlier row of the batch made: where it lies, and what is wrong when it does not.

A picture or a drawing becomes the first frame of a clip, a clip is gone on with.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from dsv4.batch.jobs import Rows, not_earlier
from dsv4.batch.row import Job
from dsv4.batch.work import safe_name


class Begins:
    """Finds the results of earlier rows in the output folder."""

    def __init__(self, folder: Path, rows: Rows) -> None:
        self._folder, self._rows = folder, rows
        named = {entry.after for entry in rows.entries if entry.after}
        self._places = {entry.id: place for place, entry in enumerate(rows.entries) if entry.id in named}

    def waits(self, place: int, finished: Collection[int]) -> bool:
        """Whether the row begins with an earlier one that is not done."""
        source = self._places.get(self._rows.entries[place].after)
        return source is not None and source < place and source not in finished

    def ready(self, place: int, job: Job) -> Job:
        """The job with what it begins with, or with the fault that this is not there."""
        if not job.after or job.fault:
            return job
        source = self._places.get(job.after)
        if source is None or source >= place:
            return replace(job, fault=not_earlier(job.after))
        made = self._rows.job(source)
        path = self._folder / "files" / f"{safe_name(made.id)}.{made.suffix}"
        if not made.suffix or not path.is_file():
            return replace(job, fault=f"after: the row '{job.after}' made no picture and no clip to begin with")
        return replace(job, clip=path) if made.task == "video" else replace(job, pictures=(path,))
