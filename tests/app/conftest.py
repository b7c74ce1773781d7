"""A house for the tests of the app, with a model process of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app.house import House
from tests.app.studios import SlowStudio


@pytest.fixture
def house(tmp_path) -> Iterator[House]:
    """A started house on a studio that is slow where it is told to be."""
    opened = House(tmp_path / "home", SlowStudio, name="echo")
    opened.start()
    yield opened
    if opened.open:
        opened.close()


@pytest.fixture
def over():
    """Wait for the end of a job."""

    def wait(house: House, job):
        return asyncio.run(asyncio.wait_for(house.over(job.id, job.owner), 30))

    return wait
