"""Studios that a test can send to another process: slow ones, ones that break, ones that come late."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from dsv4 import EchoStudio, InputError
from dsv4.results import ChatStream, Picture, Progress


class SlowStudio(EchoStudio):
    """Echo that takes 50 ms for a step and for a word, where the prompt says slow; dies where it says die."""

    def chat(self, prompt: str, *pictures: Any, **settings: Any) -> ChatStream:
        stream = super().chat(prompt, *pictures, **settings)
        pieces = stream._pieces

        def slowly() -> Any:
            for place, piece in enumerate(pieces):
                if "die" in prompt and place == 3:
                    time.sleep(0.2)  # what was said has reached the server
                    os._exit(9)
                time.sleep(0.05 if "slow" in prompt else 0)
                yield piece

        stream._pieces = slowly()
        return stream

    def image(self, prompt: str, *, on_progress: Any = None, cancelled: Any = None, **settings: Any) -> Picture:
        def show(progress: Progress) -> None:
            if "die" in prompt and progress.step == 3:
                os._exit(9)
            if "break" in prompt:
                raise RuntimeError("secret path")
            time.sleep(0.05 if "slow" in prompt else 0)
            on_progress(progress)

        return super().image(prompt, on_progress=show, cancelled=cancelled, **settings)

    def video(self, prompt: str, *, on_progress: Any = None, **settings: Any) -> Any:
        def show(progress: Progress) -> None:
            time.sleep(0.3 if "slow" in prompt else 0)
            on_progress(progress)

        return super().video(prompt, on_progress=show, **settings)


class Late:
    """A factory whose studio comes when a file appears."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def __call__(self) -> EchoStudio:
        while not self.gate.exists():
            time.sleep(0.02)
        return EchoStudio()


def broken() -> EchoStudio:
    """A factory that has no weights."""
    raise InputError("no weights here")


def dead() -> EchoStudio:
    """A factory whose process dies."""
    os._exit(9)


class Unread(EchoStudio):
    """Echo by the name of a model that has not learnt print."""

    name = "nano"
