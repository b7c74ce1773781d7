"""Studios that a test can send to another process: slow ones, ones that break, ones that come late."""

from __future__ import annotations

import os
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dsv4 import EchoStudio, InputError
from dsv4.chat_format import Call
from dsv4.results import ChatStream, Picture, Progress, Reply


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


class Calling(EchoStudio):
    """Echo that calls its hands where it is asked to draw."""

    def chat(self, prompt: str, *pictures: Any, **settings: Any) -> ChatStream:
        if not prompt.startswith("draw "):
            return super().chat(prompt, *pictures, **settings)
        call = Call(kind="svg", prompt=prompt.removeprefix("draw "))
        return ChatStream(lambda stop: iter([call.text]), lambda text, _: Reply(text=text, provenance={}, call=call))

    def perform(self, call: Call, **settings: Any) -> Any:
        return getattr(self, call.kind)(call.prompt, **settings)


class Reading(Calling):
    """Echo that reads srimp as shrimp, unless it is told not to, and was never taught what a zebra is."""

    def chat(self, prompt: str, *pictures: Any, correct: bool = True, **settings: Any) -> ChatStream:
        stream = super().chat(self._read(prompt, correct), *pictures, correct=correct, **settings)
        finish = stream._finish
        stream._finish = lambda text, stopped: self._said(finish(text, stopped), prompt, correct)
        return stream

    def svg(self, prompt: str = "", *, correct: bool = True, **settings: Any) -> Any:
        return self._said(super().svg(self._read(prompt, correct), correct=correct, **settings), prompt, correct)

    def image(self, prompt: str, *, correct: bool = True, **settings: Any) -> Any:
        return self._said(super().image(self._read(prompt, correct), correct=correct, **settings), prompt, correct)

    def video(self, prompt: str, *, correct: bool = True, **settings: Any) -> Any:
        return self._said(super().video(self._read(prompt, correct), correct=correct, **settings), prompt, correct)

    def perform(self, call: Call, **settings: Any) -> Any:
        return super().perform(call, correct=False, **settings)

    def _read(self, prompt: str, correct: bool) -> str:
        return prompt.replace("srimp", "shrimp") if correct else prompt

    def _said(self, made: Any, prompt: str, correct: bool) -> Any:
        told: dict[str, Any] = {"corrected": {"srimp": "shrimp"}} if correct and "srimp" in prompt else {}
        told |= {"untaught": ["zebra"]} if correct and "zebra" in prompt else {}
        return replace(made, provenance={**made.provenance, **told})


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


class OutOfMemoryError(RuntimeError):
    """As torch calls a full accelerator."""


class Faulty(EchoStudio):
    """Echo with the faults of a machine: the prompt says which."""

    tries = 0

    def image(self, prompt: str, **settings: Any) -> Picture:
        self.tries += 1
        if "full always" in prompt or ("full once" in prompt and self.tries % 2):
            raise OutOfMemoryError("no room on the device")
        if "gone" in prompt:
            raise RuntimeError("CUDA error: the device is lost")
        if "hog" in prompt:
            _hog()
        if "codec" in prompt:
            raise ValueError("no encoder for this codec")
        return super().image(prompt, **settings)


def _hog() -> None:
    """Ask for more memory than the process may have."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, before[1]))
    try:
        bytearray(2**28)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


class Weights:
    """A factory whose fingerprint is what a file says."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __call__(self) -> EchoStudio:
        studio = EchoStudio()
        studio.fingerprint = self.file.read_text()
        return studio


class Second(EchoStudio):
    """Another model beside echo, which says its name."""

    name, fingerprint = "second", "second-1"

    def chat(self, prompt: str, *pictures: Any, **settings: Any) -> ChatStream:
        return super().chat(f"second: {prompt}", *pictures, **settings)


class Full(EchoStudio):
    """Echo on a device that has room for pictures in mode tiny and for clips of a second; it holds what it began."""

    held: weakref.WeakSet[Any] = weakref.WeakSet()

    def chat(self, prompt: str, *pictures: Any, **settings: Any) -> ChatStream:
        if pictures and settings["mode"] != "tiny":
            self._overflow()
        words = f"held {len(self.held)}" if "held" in prompt else f"seen in {settings['mode']}: {prompt}"
        return super().chat(words, *pictures, **settings)

    def video(self, prompt: str, *, seconds: float, **settings: Any) -> Any:
        if seconds > 1:
            self._overflow()
        return super().video(prompt, seconds=seconds, **settings)

    def _overflow(self) -> None:
        tensor = _Tensor()  # noqa: F841  (the frame of this call holds it, as a real one does)
        self.held.add(tensor)
        raise OutOfMemoryError("no room on the device")


class _Tensor:
    """Something that takes room as long as anything refers to it."""


class Preset:
    """Stands in for real weights: a picture of the size that was asked for."""

    name, fingerprint = "z-image-turbo", "preset-1"

    def make(self, prompt: str, *, seed: int, width: int, height: int, steps: int, guidance: float, **_: Any) -> Any:
        made_by = {"task": "image", "prompt": prompt, "seed": seed, "model": self.name, "settings": {}}
        notes = [f"asked for {steps} steps at {guidance}"]
        return Picture(array=np.full((height, width, 3), 128, dtype=np.uint8), provenance=made_by), notes
