"""The studio's verbs in front of any OpenAI-compatible address: another machine's studio, or an engine made for racks.

Chat and pictures go to the public interfaces of the same names. A server that draws no SVG is asked to write one, and
what it writes is built anew from the allowed parts. Source: the chat completions, images and videos interfaces.
Shape letters: F frames, H height, W width.
"""

from __future__ import annotations

import base64
import io
import json
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.errors import InputError, unknown
from dsv4.finish import clip_before_FHW3, continued
from dsv4.messages import Repo, Text
from dsv4.pictures_in import open_pictures
from dsv4.redraw import redrawn
from dsv4.results import BatchReport, ChatStream, Clip, Picture, Progress, Reply, Svg, Usage

if TYPE_CHECKING:
    import httpx
    import numpy as np
    from PIL.Image import Image as PilImage

    from dsv4.messages import Document, Image, Message, Video
    from dsv4.reading import Page, ReadStream

Cancelled = Callable[[], bool] | None
OnProgress = Callable[[Progress], None] | None
KEY = "DSV4_API_KEY"  # the variable that holds the key, if the server wants one
SECONDS = 600.0
LARGEST = 256 << 20  # bytes of an answer
REPO_BUDGET = 100_000
WRITE_SVG = "Answer with one SVG document of viewBox 0 0 96 96 and nothing else: {}"
NOT_DRAWN = (400, 404, 405, 422, 501)  # what servers answer that have no images, or no SVG among them
ENDS = {"stop": "end", "length": "length", None: "end"}


class RemoteStudio:
    """The verbs of `Studio`, done by the server at an address such as http://127.0.0.1:8000/v1."""

    def __init__(self, url: str, *, model: str | None = None, key: str | None = None) -> None:
        if not url.startswith(("http://", "https://")):
            raise InputError(f"an address begins with http:// or https://, got '{url}'")
        self.url = url.rstrip("/")
        if not self.url.endswith("/v1"):
            self.url += "/v1"
        self._key = key or os.environ.get(KEY)
        names = [str(one.get("id")) for one in self._json("GET", "/models").get("data", [])]
        if model is not None and names and model not in names:
            raise unknown("model", model, names)
        if model is None and not names:
            raise InputError(f"{self.url} names no model; say which one")
        self.name = model or names[0]
        self.fingerprint, self.source = f"{self.name} at {self.url}", self.url

    def chat(
        self,
        prompt: str,
        *pictures: Image | Document | Video | Repo,
        mode: str = "tiny",
        history: tuple[Message, ...] = (),
        seed: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 160,
        correct: bool = True,
        cancelled: Cancelled = None,
    ) -> ChatStream:
        """Ask the server's model; its pieces come as it sends them. `mode` is what a studio of ours looks with."""
        text = limits.check_prompt(prompt)
        limits.check_mode(mode)
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens)
        limits.check_count("messages of history", history, limits.HISTORY_MESSAGES)
        said = [_message(one) for one in history] + [{"role": "user", "content": _content(text, pictures)}]
        body = {"model": self.name, "messages": said, "seed": seed, "temperature": temperature, "stream": True,
                "max_tokens": max_tokens, "stream_options": {"include_usage": True}, **_as_typed(correct)}  # fmt: skip
        end: dict[str, Any] = {}

        def write(stop: Callable[[], bool]) -> Iterator[str]:
            for event in self._events("/chat/completions", body):
                end.update(event.get("usage") or {})
                end.update({name: event[name] for name in ("corrected", "untaught") if event.get(name)})
                for choice in event.get("choices", [])[:1]:
                    end["finish"] = choice.get("finish_reason") or end.get("finish")
                    piece = (choice.get("delta") or {}).get("content")
                    if piece:
                        yield piece
                if stop():
                    return

        def finish(whole: str, was_cancelled: bool) -> Reply:
            details = end.get("prompt_tokens_details") or {}
            usage = Usage(
                read=end.get("prompt_tokens", 0), written=end.get("completion_tokens", 0),
                pictures=details.get("image_tokens", 0) or 0, cached=details.get("cached_tokens", 0) or 0,
            )  # fmt: skip
            stopped = "cancelled" if was_cancelled else ENDS.get(end.get("finish"), "end")
            made_by = self._made_by("chat", text, seed, mode=mode, temperature=temperature) | _read_as(end)
            return Reply(text=whole.strip(), provenance=made_by, stopped=stopped, usage=usage)

        return ChatStream(write, finish, cancelled=cancelled)

    def svg(
        self,
        prompt: str = "",
        *,
        picture: Image | None = None,
        trace: str = "auto",
        seed: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 1200,
        candidates: int = 1,
        correct: bool = True,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Svg:
        """A drawing by the server's images, or by its chat model where it has none; always rebuilt here.

        Of a picture only the outlines can be followed (`trace` "always"), which is done here.
        """
        if limits.check_trace(trace) == "always" and picture is not None:
            return redrawn(self, picture, prompt, trace=trace, seed=seed)
        if picture is not None:
            none = "no public interface redraws; trace='always' follows its outlines here"
            raise InputError(f"a picture cannot be redrawn at {self.url}: {none}")
        text = limits.check_prompt(prompt)
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens, candidates=candidates)
        if candidates > 1:
            raise InputError(f"candidates must be 1 at {self.url}: no public interface ranks drawings")
        body = {"model": self.name, "prompt": text, "output_format": "svg", "seed": seed, "temperature": temperature,
                "max_tokens": max_tokens, **_as_typed(correct)}  # fmt: skip
        answer = self._send("POST", "/images/generations", body)
        if answer.status_code not in NOT_DRAWN:
            raw = self._item(self._checked(answer)).decode("utf-8", errors="replace")
        else:
            asked = WRITE_SVG.format(text)
            told = self.chat(
                asked, seed=seed, temperature=temperature, max_tokens=max_tokens, correct=correct, cancelled=cancelled
            )
            raw = told.reply.text
        found = re.search(r"<svg\b.*</svg>", raw, re.DOTALL)
        if found is None:
            raise InputError(f"{self.url} gave no SVG for this")
        made_by = self._made_by("svg", text, seed, temperature=temperature, max_tokens=max_tokens)
        try:
            safe = part("generation.svg").rebuild(found[0])
        except ValueError as error:
            raise InputError(f"{self.url} gave an SVG that cannot be read: {error}") from error
        if on_progress is not None:
            on_progress(Progress(step=1, total=1, preview=safe))
        return Svg(text=safe, raw=raw, provenance=made_by)

    def image(
        self,
        prompt: str,
        *,
        seed: int = 0,
        size: int = 128,
        steps: int = 8,
        guidance: float | None = None,
        correct: bool = True,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Picture:
        """A picture by the server's images interface."""
        import numpy as np

        text = limits.check_prompt(prompt)
        limits.check_size(size)
        limits.check_numbers(seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        body = {"model": self.name, "prompt": text, "size": f"{size}x{size}", "n": 1, "response_format": "b64_json",
                "seed": seed, "steps": steps, "guidance": guidance, **_as_typed(correct)}  # fmt: skip
        pixels = _opened(self._item(self._checked(self._send("POST", "/images/generations", body))))
        picture_HW3 = np.asarray(pixels, dtype=np.uint8)
        if on_progress is not None:
            on_progress(Progress(step=steps, total=steps, preview=picture_HW3))
        made_by = self._made_by("image", text, seed, size=size, steps=steps, guidance=guidance)
        return Picture(array=picture_HW3, provenance=made_by)

    def video(
        self,
        prompt: str,
        *,
        seconds: float = 2.0,
        seed: int = 0,
        steps: int = 8,
        guidance: float | None = None,
        first_frame: Image | None = None,
        after: Video | None = None,
        correct: bool = True,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Clip:
        """A clip by the server's videos interface; asked after until it is finished.

        `after` is gone on with from its last frame, which the server is shown, and joined here.
        """
        text = limits.check_prompt(prompt)
        limits.check_numbers(seconds=seconds, seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        limits.check_clip(seconds, first_frame, after)
        body: dict[str, Any] = {"model": self.name, "prompt": text, "seconds": f"{seconds:g}", "seed": seed,
                                "steps": steps, "guidance": guidance, **_as_typed(correct)}  # fmt: skip
        before = None
        if first_frame is not None:
            body["input_reference"] = {"image_url": _address(open_pictures([first_frame])[0])}
        elif after is not None:
            before = clip_before_FHW3(after, limits.CLIP_SIZE, limits.clip_frames(seconds))
            body["input_reference"] = {"image_url": _address(_picture(before[-1]))}
        job = self._json("POST", "/videos", body)
        until = time.monotonic() + SECONDS
        while job.get("status") not in ("completed", "failed"):
            if cancelled is not None and cancelled():
                self._send("DELETE", f"/videos/{job.get('id')}")
                raise InputError("the clip was cancelled before it was there")
            if time.monotonic() > until:
                raise InputError(f"{self.url} made no clip in {SECONDS:.0f} seconds")
            time.sleep(0.1)
            job = self._json("GET", f"/videos/{job['id']}")
            if on_progress is not None:
                on_progress(Progress(step=int(job.get("progress") or 0), total=100))
        if job["status"] == "failed":
            raise InputError(f"{self.url}: {(job.get('error') or {}).get('message', 'the clip failed')}")
        content = self._checked(self._send("GET", f"/videos/{job['id']}/content")).content
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "clip.mp4"
            path.write_bytes(content)
            clip = part("generation").read_clip(path)
        frames_FHW3 = clip.frames_NHW3
        if before is not None:
            if frames_FHW3.shape[1:] != before.shape[1:]:
                raise InputError(f"{self.url} made a clip of another size, which cannot go on with this one")
            frames_FHW3 = continued(before, frames_FHW3)
        made_by = self._made_by("video", text, seed, seconds=seconds, steps=steps, guidance=guidance)
        return Clip(frames=frames_FHW3, fps=max(1, round(clip.fps)), provenance=made_by)

    def read(
        self,
        source: Document | Image,
        *,
        mode: str = "gundam",
        pages: tuple[int, ...] = (),
        task: str = "markdown",
        find: str = "",
        tiles: int | None = None,
        max_tokens: int = 4096,
        on_page: Callable[[Page, PilImage], None] | None = None,
        cancelled: Cancelled = None,
    ) -> ReadStream:
        """Refused: no public interface reads documents page by page."""
        raise InputError(f"documents are read on this machine: load a model here, or show pages to chat at {self.url}")

    def batch(
        self, jobs: str | PathLike[str] | Iterable[Mapping[str, Any]], *, out: str | PathLike[str]
    ) -> BatchReport:
        """Run a file or an iterable of rows against the server; see `dsv4.batch`."""
        from dsv4.batch import run_batch

        return run_batch(self, jobs, out=out)

    def _made_by(self, task: str, prompt: str, seed: int, **settings: float | int | str) -> dict[str, Any]:
        return {"task": task, "prompt": prompt.strip(), "seed": seed, "model": self.fingerprint, "settings": settings}

    def _client(self) -> httpx.Client:
        import httpx

        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        return httpx.Client(timeout=SECONDS, headers=headers, trust_env=False)

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> httpx.Response:
        import httpx

        try:
            with self._client() as client:
                return client.request(method, self.url + path, json=body)
        except httpx.HTTPError as error:
            raise InputError(f"{self.url} does not answer: {error}") from error

    def _checked(self, answer: httpx.Response) -> httpx.Response:
        if answer.status_code >= 400:
            raise InputError(f"{self.url} answered {answer.status_code}: {_complaint(answer.text)}")
        if len(answer.content) > LARGEST:
            raise InputError(f"{self.url} answered with more than {LARGEST >> 20} MB")
        return answer

    def _json(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._checked(self._send(method, path, body))
        try:
            found = answer.json()
        except ValueError as error:
            raise InputError(f"{self.url}{path} gave no JSON; is it an OpenAI-compatible address?") from error
        if not isinstance(found, dict):
            raise InputError(f"{self.url}{path} gave no JSON object; is it an OpenAI-compatible address?")
        return found

    def _item(self, answer: httpx.Response) -> bytes:
        try:
            return base64.b64decode(answer.json()["data"][0]["b64_json"])
        except (ValueError, LookupError, TypeError) as error:
            raise InputError(f"{self.url} gave no picture") from error

    def _events(self, path: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """The data of each server-sent event until [DONE]; an error among them ends the answer."""
        import httpx

        try:
            with self._client() as client, client.stream("POST", self.url + path, json=body) as answer:
                if answer.status_code >= 400:
                    answer.read()
                    self._checked(answer)
                for line in answer.iter_lines():
                    if not line.startswith("data:"):
                        continue
                    data = line.removeprefix("data:").strip()
                    if data == "[DONE]":
                        return
                    event = json.loads(data)
                    if "error" in event:
                        raise InputError(f"{self.url}: {_complaint(data)}")
                    yield event
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            raise InputError(f"the answer of {self.url} broke off: {error}") from error


def _as_typed(correct: bool) -> dict[str, bool]:
    """The field that switches correction off; only sent where it is asked for, since other servers do not know it."""
    limits.check_correct(correct)
    return {} if correct else {"correct": False}


def _read_as(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What a server of ours says that it read otherwise than typed, or was never taught."""
    kinds = {"corrected": dict, "untaught": list}
    return {name: kind(answer[name]) for name, kind in kinds.items() if isinstance(answer.get(name), kind)}


def _message(one: Message) -> dict[str, Any]:
    words = " ".join(piece.text for piece in one.parts if isinstance(piece, Text))
    shown = [piece for piece in one.parts if not isinstance(piece, Text)]
    return {"role": one.role, "content": _content(words, shown)}


def _content(text: str, shown: Iterable[Any]) -> str | list[dict[str, Any]]:
    repos = [one for one in shown if isinstance(one, Repo)]
    pictures = open_pictures([one for one in shown if not isinstance(one, Repo)])
    if repos:
        from dsv4.repository.pack import pack

        packs = [pack(one.source, budget=one.budget or REPO_BUDGET, query=text, ignore=one.ignore) for one in repos]
        text = "\n".join([*(one.text for one in packs), text])
    if not pictures:
        return text
    seen = [{"type": "image_url", "image_url": {"url": _address(one)}} for one in pictures]
    return [*seen, {"type": "text", "text": text}]


def _address(pixels: PilImage) -> str:
    held = io.BytesIO()
    pixels.save(held, "PNG")
    return "data:image/png;base64," + base64.b64encode(held.getvalue()).decode()


def _picture(pixels_HW3: np.ndarray) -> PilImage:
    from PIL import Image

    return Image.fromarray(pixels_HW3)


def _opened(content: bytes) -> PilImage:
    from dsv4.messages import image

    return open_pictures([image(content)])[0]


def _complaint(text: str) -> str:
    try:
        return str(json.loads(text)["error"]["message"])[:300]
    except (ValueError, LookupError, TypeError):
        return text[:300]
