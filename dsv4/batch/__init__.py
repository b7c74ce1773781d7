"""Many rows of work, one output line each: restartable, in order, the same bytes however often it was interrupted."""

from __future__ import annotations

from dsv4.batch.export import export_batch
from dsv4.batch.jobs import read_rows
from dsv4.batch.ledger import Ledger
from dsv4.batch.row import TASKS, Job
from dsv4.batch.run import BACKENDS, batch_status, run_batch

__all__ = ["BACKENDS", "TASKS", "Job", "Ledger", "batch_status", "export_batch", "read_rows", "run_batch"]
