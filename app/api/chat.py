"""`/v1/chat/completions`: answers in words, whole or as a stream that can be resumed, about pictures too.

Source: the public chat completions interface as its Python client 3.57 speaks it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from dsv4.errors import unknown
from dsv4.limits import MESSAGES, PICTURES

from .. import fetch
from ..intake import Unreadable, from_data_url, take_in
from ..jobs import ENDED, Job
from .body import Fields, checked, read_json
from .errors import ApiError, from_input, from_job
from .kit import (
    check_model,
    event_name,
    house_of,
    last_seen,
    model_of,
    own_asset,
    own_job,
    sse,
    stream,
    submit,
    user_of,
)

router = APIRouter(tags=["chat"])
ROLES = {"user": "user", "assistant": "assistant", "system": "system", "developer": "system"}
DETAIL = {"low": "tiny", "auto": "tiny", "high": "base", "original": "gundam"}
NUMBERS = {
    "temperature": "temperature",
    "seed": "seed",
    "max_tokens": "max_tokens",
    "max_completion_tokens": "max_tokens",
}
NO_TOOLS = "this model calls no tools"
EXAMPLE = {"model": "nano", "messages": [{"role": "user", "content": "What is a heron?"}], "stream": False}


@router.post("/v1/chat/completions", openapi_extra={"example": EXAMPLE})
async def create(request: Request) -> Response:
    """Answer a conversation: text, `image_url` and `file` parts; `stream`, `seed`, `mode` and `stop` are followed.

    A mistyped word is read as the one that was meant, which `corrected` then says; with `correct: false` none is.
    `untaught` names a word whose meaning was asked for and that the model was never taught.
    """
    fields = await read_json(request)
    model = check_model(request, fields.take("model", str, None))
    said = fields.take("messages", list)
    _refuse(fields)
    streamed = fields.take("stream", bool, False)
    with_usage = Fields(fields.take("stream_options", dict, {})).take("include_usage", bool, False)
    stop = _stops(fields)
    params, detail = await _params(request, said)
    params |= {"mode": fields.take("mode", str, detail), "model": model}
    params |= {**fields.settings(NUMBERS), "correct": fields.take("correct", bool, True)}
    warnings = fields.warnings()
    job = submit(request, "chat", params)
    if streamed:
        return stream(_chunks(request, job, 0, stop=stop, with_usage=with_usage, model=model, warnings=warnings))
    job = await _finished(request, job, stop)
    return JSONResponse(_completion(job, model, warnings, stop))


@router.get("/v1/chat/completions/{name}")
async def again(request: Request, name: str, stream_it: bool = False) -> Response:
    """An earlier answer; with `Last-Event-ID` or `?after=` the rest of its stream, as if it had never been cut."""
    job = own_job(request, name.removeprefix("chatcmpl-"), "chat")
    model = model_of(request, job)
    if stream_it or "last-event-id" in request.headers or "after" in request.query_params:
        return stream(
            _chunks(request, job, last_seen(request, job), stop=(), with_usage=False, model=model, warnings=[])
        )
    job = await _finished(request, job, ())
    return JSONResponse(_completion(job, model, [], ()))


def _refuse(fields: Fields) -> None:
    fields.refuse("tools", NO_TOOLS)
    fields.refuse("functions", NO_TOOLS)
    fields.refuse("logprobs", "it tells no probabilities")
    fields.refuse("audio", "it does not speak")
    fields.whole("n", 1, 1, 1)
    top_p = fields.take("top_p", (int, float), 1)
    if not 0 < top_p <= 1:
        raise ApiError(400, "top_p must be above 0 and at most 1", param="top_p")
    if top_p != 1:
        fields.notes.append("'top_p' is ignored")
    form = fields.take("response_format", dict, {"type": "text"})
    if form.get("type") != "text":
        raise ApiError(
            400, "response_format must be of type text", code="unsupported_parameter", param="response_format"
        )


def _stops(fields: Fields) -> tuple[str, ...]:
    given = fields.take("stop", (str, list), [])
    found = [given] if isinstance(given, str) else given
    if len(found) > 4 or not all(isinstance(one, str) and 0 < len(one) <= 200 for one in found):
        raise ApiError(400, "stop must be a text, or up to 4 of them, none empty", param="stop")
    return tuple(found)


async def _params(request: Request, said: list[Any]) -> tuple[dict[str, Any], str]:
    """The job of a conversation, and the mode that its pictures ask for."""
    if not 0 < len(said) <= MESSAGES:
        raise ApiError(400, f"messages must hold 1 to {MESSAGES} messages, got {len(said)}", param="messages")
    turns: list[dict[str, Any]] = []
    details: list[str] = []
    for place, one in enumerate(said):
        if not isinstance(one, dict):
            raise ApiError(400, f"messages[{place}] must be an object", param="messages")
        role = one.get("role")
        if role not in ROLES:
            raise ApiError(400, f"messages[{place}]: {unknown('role', str(role)[:40], ROLES)}", param="messages")
        text, shown = await _content(request, one.get("content"), f"messages[{place}]", details)
        if not text and not shown and role == "user":
            raise ApiError(400, f"messages[{place}] is empty; write what you want", param="messages")
        turns.append({"role": ROLES[role], "text": text, "shown": shown})
    last = turns.pop()
    if last["role"] != "user":
        raise ApiError(400, "the last message must be by the user", param="messages")
    prompt = last["text"] or "What is in this picture?"
    history = [turn for turn in turns if turn["text"] or turn["shown"]]
    return {"prompt": prompt, "shown": last["shown"], "history": history}, (details or ["tiny"])[-1]


async def _content(request: Request, content: Any, place: str, details: list[str]) -> tuple[str, list[str]]:
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise ApiError(400, f"{place}.content must be text or a list of parts", param="messages")
    texts, shown = [], []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text" and isinstance(part.get("text"), str):
            texts.append(part["text"])
        elif kind in ("image_url", "video_url", "file") and isinstance(part.get(kind), dict):
            shown.append(await _shown(request, kind, part[kind], details))
        else:
            allowed = "text, image_url, video_url and file"
            raise ApiError(
                400,
                f"{place}: a part of type {str(kind)[:40]!r} is not understood; it takes {allowed}",
                param="messages",
            )
        if len(shown) > PICTURES:
            raise ApiError(400, f"{place} shows more than {PICTURES} files", param="messages")
    return "\n".join(texts), shown


async def _shown(request: Request, kind: str, given: Mapping[str, Any], details: list[str]) -> str:
    """The asset id of what a part shows."""
    if kind == "file" and isinstance(given.get("file_id"), str):
        return own_asset(request, given["file_id"]).id
    source = given.get("file_data" if kind == "file" else "url")
    if not isinstance(source, str):
        raise ApiError(400, f"a part of type {kind} names its file as a data: address or an id", param="messages")
    if kind == "image_url":
        detail = given.get("detail") or "auto"
        if detail not in DETAIL:
            raise ApiError(400, str(unknown("detail", str(detail)[:40], DETAIL)), param="messages")
        details.append(DETAIL[detail])
    content = await read_source(request, source)
    name = str(given.get("filename") or kind)
    try:
        return take_in(house_of(request).media, content, owner=user_of(request), name=name, purpose="request").id
    except Unreadable as error:
        raise from_input(error, status=422) from error
    except ValueError as error:
        raise ApiError(413, str(error), code="too_large", param="messages") from error


async def read_source(request: Request, source: str) -> bytes:
    """The bytes of a data: address, or of a public one where that is switched on; raises ApiError."""
    if source[:5].lower() == "data:":
        return checked(from_data_url, source)
    if not request.app.state.fetch:
        raise ApiError(
            400, "addresses are not opened here; send the file itself as data:...;base64,...", code="fetch_is_off"
        )
    try:
        return await asyncio.to_thread(fetch.fetch, source)
    except fetch.Forbidden as error:
        raise ApiError(403, str(error), code="address_forbidden") from error
    except ValueError as error:
        raise ApiError(422, str(error), code="address_unreadable") from error


async def shown_file(request: Request, given: str | dict[str, Any], param: str, name: str) -> str:
    """The asset id of a file in field `param`: {file_id}, uploaded bytes, or an address; raises ApiError."""
    if isinstance(given, dict) and isinstance(given.get("file_id"), str):
        return own_asset(request, given["file_id"]).id
    if isinstance(given, dict) and "bytes" in given:
        content, name = given["bytes"], given["filename"]
    else:
        url = given if isinstance(given, str) else given.get("image_url")
        if not isinstance(url, str):
            raise ApiError(400, f"{param} is a file, a data: address or {{file_id}}", param=param)
        content = await read_source(request, url)
    try:
        return take_in(house_of(request).media, content, owner=user_of(request), name=name, purpose="request").id
    except Unreadable as error:
        raise from_input(error, status=422) from error


def cut(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    """The text up to the first stop word, and whether there was one."""
    places = [place for word in stop if (place := text.find(word)) >= 0]
    return (text[: min(places)], True) if places else (text, False)


async def _finished(request: Request, job: Job, stop: tuple[str, ...]) -> Job:
    house, text = house_of(request), ""
    async for event in house.follow(job.id, job.owner):
        if event.kind == "text":
            text += event.data["delta"]
            if stop and cut(text, stop)[1]:
                house.cancel(job.id, job.owner)
    job = house.jobs.get(job.id)
    if job.state != "done" and not (stop and cut(text, stop)[1]):
        raise from_job(job)
    return job


def _usage(job: Job) -> dict[str, Any]:
    used = job.result.get("usage") or {"read": 0, "written": 0, "pictures": 0}
    return {
        "prompt_tokens": used["read"],
        "completion_tokens": used["written"],
        "total_tokens": used["read"] + used["written"],
        "prompt_tokens_details": {"image_tokens": used["pictures"], "cached_tokens": used.get("cached", 0)},
    }


def _reason(job: Job, stopped: bool = False) -> str:
    return "length" if job.result.get("stopped") == "length" and not stopped else "stop"


def _completion(job: Job, model: str, warnings: list[str], stop: tuple[str, ...]) -> dict[str, Any]:
    text, stopped = cut(job.result.get("text", ""), stop)
    message = {"role": "assistant", "content": text, "refusal": None}
    if job.result.get("thought"):
        message["reasoning_content"] = job.result["thought"]
    if job.result.get("files"):  # the reply was a call of the hands: what they made, for GET /v1/files/{id}/content
        message["files"] = job.result["files"]
    choice = {"index": 0, "message": message, "finish_reason": _reason(job, stopped), "logprobs": None}
    head = {"id": f"chatcmpl-{job.id}", "object": "chat.completion", "created": int(job.created), "model": model}
    warnings = [*warnings, *job.result.get("warnings", ())]
    notes = {**_read_as(job), **({"warnings": warnings} if warnings else {})}
    return {**head, "choices": [choice], "usage": _usage(job), **notes}


def _read_as(job: Job) -> dict[str, Any]:
    """Words that were read as others, as typed and as read, and words that the model was never taught."""
    return {name: job.result[name] for name in ("corrected", "untaught") if job.result.get(name)}


async def _chunks(
    request: Request, job: Job, after: int, *, stop: tuple[str, ...], with_usage: bool, model: str, warnings: list[str]
) -> AsyncIterator[str]:
    """The stream of an answer; what comes before event `after` is left out."""
    house = house_of(request)
    head = {"id": f"chatcmpl-{job.id}", "object": "chat.completion.chunk", "created": int(job.created), "model": model}

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}]}

    if not after:
        first = chunk({"role": "assistant", "content": ""})
        yield sse({**first, **({"warnings": warnings} if warnings else {})}, name=f"{job.id}:0")
    text, told, hold = "", 0, max((len(word) for word in stop), default=1) - 1
    async for event in house.follow(job.id, job.owner, after):
        if event.kind == "text":
            text += event.data["delta"]
            if cut(text, stop)[1]:
                house.cancel(job.id, job.owner)
        said, stopped = cut(text, stop)
        ready = said if stopped or event.kind in ENDED else said[: len(said) - hold] if hold else said
        if len(ready) > told:
            yield sse(chunk({"content": ready[told:]}), name=event_name(job, event))
            told = len(ready)
        if event.kind in ENDED:
            now = house.jobs.get(job.id)
            if event.kind == "done" or stopped:
                made = {"files": now.result["files"]} if now.result.get("files") else {}
                yield sse({**chunk(made, _reason(now, stopped)), **_read_as(now)}, name=event_name(job, event))
                if with_usage:
                    yield sse({**head, "choices": [], "usage": _usage(now)})
            else:
                yield sse(from_job(now).body())
    yield sse("[DONE]")
