"""What goes wrong, in the shape that clients of chat APIs expect: `{"error": {message, type, param, code}}`."""

from __future__ import annotations

import re
from typing import Any

from dsv4.errors import InputError

from ..jobs import Job, QueueFull

NAMES = ("prompt", "size", "seed", "temperature", "max_tokens", "steps", "guidance", "seconds", "mode", "messages")


class ApiError(Exception):
    """An answer that says what was wrong; `param` names the field."""

    def __init__(self, status: int, message: str, *, code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        kind = "server_error" if self.status >= 500 else "invalid_request_error"
        kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(self.status, kind)
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}

    def headers(self) -> dict[str, str]:
        """When to come back, where that helps."""
        return {"retry-after": "5"} if self.status in (429, 503) else {}


def from_input(error: InputError, *, status: int = 400) -> ApiError:
    """An InputError as an answer; the field is the first name of a setting in its words."""
    words = str(error)
    if isinstance(error, QueueFull):
        return ApiError(429, words, code="queue_full")
    if words.startswith("there is no "):
        return ApiError(404, words, code="not_found")
    if " cannot " in words[:60] and words.startswith("the model '"):
        return ApiError(400, words, code="model_cannot")
    if words.startswith("the model '"):
        return ApiError(503, words, code="model_not_loaded")
    named = next((name for name in NAMES if re.search(rf"\b{name}\b", words[:60])), None)
    return ApiError(status, words, param=named)


def from_job(job: Job) -> ApiError:
    """Why a job has no result."""
    if job.state == "cancelled":
        return ApiError(409, "the job was cancelled", code="cancelled")
    if job.result.get("theirs"):
        shown = bool(job.params.get("shown") or job.params.get("first_frame"))
        return from_input(InputError(job.error), status=422 if shown else 400)
    full = "space" in job.error or "memory" in job.error
    return ApiError(507 if full else 500, job.error or "the job failed", code="job_failed")
