"""Groups of rows on a Ray cluster, through Ray Data; the ledger stays with the driver, so the bytes are the same.

Ray's own checkpoints are not used: they lose all partial work when the driver is killed.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable, Generator, Iterator
from typing import Any

from dsv4.batch.processes import Item, Setup, Worker
from dsv4.batch.row import Job
from dsv4.batch.work import Outcome, carried
from dsv4.errors import InputError

OBJECT_STORE_BYTES = 256 * 2**20  # of a cluster that is started here, for one machine


class RayWorker:
    """An actor of Ray Data: loads the model once, then makes one group a call; what goes wrong travels as data."""

    def __init__(self, setup: Setup) -> None:
        self._worker: Worker | None = None
        try:
            self._worker = Worker(setup)
        except Exception as error:
            self._error = error

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """`batch["item"]` and the result's `made` hold pickled Items and outcomes."""
        return {"made": [pickle.dumps(self._make(pickle.loads(bytes(one)))) for one in batch["item"]]}  # noqa: S301

    def _make(self, item: Item) -> list[Outcome] | Exception:
        if self._worker is None:
            return self._error
        try:
            return self._worker.make(item)
        except Exception as error:
            return error


def run_on_ray(
    items: Iterator[Item], setup: Setup, *, workers: int, cancelled: Callable[[], bool] | None = None
) -> Generator[list[Outcome], None, None]:
    """Yield the outcomes of each group as it is done, on the cluster that RAY_ADDRESS names or on one started here.

    All rows are handed to the cluster at the start; once `cancelled()` is true, the rest of them is dropped.
    Raises what stops a batch, and InputError when Ray is not installed.
    """
    ray = _ray()
    import ray.data  # noqa: F811 - the package, with its part that is not loaded by itself

    own = not ray.is_initialized()
    if own:
        _begin(ray, workers)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False
        for name in ("ray.data", "ray._private"):
            logging.getLogger(name).setLevel(logging.ERROR)
        rows = [{"item": pickle.dumps(_inside(item))} for item in items]
        if not rows:
            return
        dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            RayWorker,
            fn_constructor_args=(setup,),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=workers),
            num_cpus=1,
        )
        for batch in dataset.iter_batches(batch_size=None, prefetch_batches=0):
            for made in batch["made"]:
                found = pickle.loads(bytes(made))  # noqa: S301 - written by our own actor, see above
                if isinstance(found, Exception):
                    raise found
                yield found
            if cancelled is not None and cancelled():
                return
    finally:
        if own:
            ray.shutdown()


def _ray() -> Any:
    try:
        import ray
        import ray.data
    except ModuleNotFoundError as error:
        raise InputError("the ray backend needs one more package: pip install 'dsv4-studio[ray]'") from error
    return ray


def _begin(ray: Any, workers: int) -> None:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    if os.environ.get("RAY_ADDRESS"):
        ray.init(log_to_driver=False, logging_level="ERROR")
        return
    ray.init(
        num_cpus=max(workers, os.cpu_count() or 1),
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        object_store_memory=OBJECT_STORE_BYTES,
    )


def _inside(item: Item) -> Item:
    """The item with its pictures inside: another machine does not see our files."""
    return Item([(place, _carried(job)) for place, job in item.group], item.before)


def _carried(job: Job) -> Job:
    try:
        return carried(job)
    except InputError:
        return job  # the worker finds the same fault, and words it the same
