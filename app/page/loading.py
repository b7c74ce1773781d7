"""Load the model behind the page: the page answers at once, and says how far the model is."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

from dsv4.errors import InputError

State = Literal["waiting", "loading", "ready", "failed"]
log = logging.getLogger(__name__)


class StudioLoader:
    """One studio, made by `factory` in a thread of its own on the first `start()`, and shared by everybody."""

    def __init__(self, factory: Callable[[], Any], *, name: str = "nano") -> None:
        """`factory` takes nothing and returns a studio; `name` is what people read while it loads."""
        self.name = name
        self.reason = ""
        self.seconds = 0.0
        self._factory = factory
        self._studio: Any = None
        self._state: State = "waiting"
        self._lock = threading.Lock()
        self._over = threading.Event()

    @property
    def state(self) -> State:
        """How far it is; `failed` has its cause in `reason`."""
        return self._state

    def start(self) -> None:
        """Begin to load, if nobody has; returns at once."""
        with self._lock:
            if self._state != "waiting":
                return
            self._state = "loading"
        threading.Thread(target=self._load, name="load-model", daemon=True).start()

    def wait(self, seconds: float) -> bool:
        """Whether loading is over, for good or bad, within `seconds`."""
        self.start()
        return self._over.wait(seconds)

    @property
    def studio(self) -> Any:
        """The loaded studio; waits for it. Raises InputError with the reason when it could not be loaded."""
        self.start()
        self._over.wait()
        if self._state == "failed":
            raise InputError(f"the model '{self.name}' is not there: {self.reason}")
        return self._studio

    def _load(self) -> None:
        begun = time.monotonic()
        try:
            self._studio = self._factory()
            self.name = str(self._studio.name)
            self._state = "ready"
        except ValueError as error:  # InputError and bad files: the words are meant for people
            self.reason, self._state = str(error), "failed"
        except Exception as error:  # the page must stay up whatever a model does
            log.exception("loading '%s' failed", self.name)
            self.reason, self._state = f"{type(error).__name__}; the log of the server has the details", "failed"
        finally:
            self.seconds = time.monotonic() - begun
            self._over.set()
