"""The studio for `gradio_client`: named endpoints over the same jobs as the page, `/chat`, `/svg`, `/image`, `/video`.

Annotations here are read while the page is built, so they are not postponed as they are elsewhere.
"""

import shutil
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.utils import get_upload_folder

from dsv4.errors import InputError
from dsv4.limits import PICTURES, check_count

from ..house import House
from ..intake import take_in
from ..jobs import Job
from .kit import lane_of, owner_of, watch

NAMED = ("chat", "svg", "image", "video", "read")


def named_endpoints(house: House) -> None:
    """Add the endpoints to the page that is being laid out; an error is told to the client in its own words."""
    calls = _Calls(house)
    for name in NAMED:
        gr.api(getattr(calls, name), api_name=name, concurrency_limit=None)


class _Calls:
    """The functions behind the names; files go in and out as files."""

    def __init__(self, house: House) -> None:
        self.house = house

    async def chat(
        self,
        prompt: str,
        files: list[gr.FileData] = [],  # noqa: B006  (it becomes the default in the description of the endpoint)
        mode: str = "tiny",
        seed: int = 0,
        temperature: float = 0.0,
        model: str = "",
        request: gr.Request = None,  # type: ignore[assignment]
    ) -> AsyncIterator[str]:
        """Answer in words, about pictures, PDFs or clips too; what has been said so far comes again and again."""
        params = {"prompt": prompt, "shown": files, "mode": mode, "seed": seed, "temperature": temperature}
        params["model"] = model
        job = self._submit("chat", params, request)
        async for view in watch(self.house, job.id, job.owner):
            if not view.job.over:
                yield view.text
        yield self._done(job).result["text"]

    async def svg(
        self,
        prompt: str,
        seed: int = 0,
        temperature: float = 0.0,
        candidates: int = 1,
        model: str = "",
        request: gr.Request = None,
    ) -> gr.FileData:
        """Draw, as an SVG file."""
        params = {"prompt": prompt, "seed": seed, "temperature": temperature, "candidates": candidates}
        params["model"] = model
        return await self._file("svg", params, request)

    async def image(
        self,
        prompt: str,
        seed: int = 0,
        size: int = 128,
        steps: int = 8,
        guidance: float | None = None,
        model: str = "",
        request: gr.Request = None,
    ) -> gr.FileData:
        """Paint, as a PNG file; guidance that is not given follows the steps."""
        params = {"prompt": prompt, "seed": seed, "size": size, "steps": steps, "guidance": guidance}
        params["model"] = model
        return await self._file("image", params, request)

    async def video(
        self,
        prompt: str,
        seconds: float = 2.0,
        seed: int = 0,
        first_frame: gr.FileData | None = None,
        model: str = "",
        request: gr.Request = None,
    ) -> gr.FileData:
        """Animate, as an MP4 file; `first_frame` is a picture to begin with."""
        params: dict[str, Any] = {"prompt": prompt, "seconds": seconds, "seed": seed, "model": model}
        if first_frame:
            params["first_frame"] = self._take(first_frame, request)
        return await self._file("video", params, request)

    async def read(
        self,
        file: gr.FileData,
        task: str = "markdown",
        find: str = "",
        mode: str = "gundam",
        model: str = "",
        request: gr.Request = None,
    ) -> tuple[str, dict]:
        """Read a document, if the loaded model can: its text, and its pages with their boxes."""
        params = {"shown": [file], "task": task, "find": find, "mode": mode, "model": model}
        job = self._submit("read", params, request)
        await self.house.over(job.id, job.owner)
        done = self._done(job)
        return done.result["text"], {"pages": done.result["pages"]}

    async def _file(self, kind: str, params: dict[str, Any], request: gr.Request) -> gr.FileData:
        job = self._submit(kind, params, request)
        await self.house.over(job.id, job.owner)
        return _handed_out(self.house.made(self._done(job))[0])

    def _submit(self, kind: str, params: dict[str, Any], request: gr.Request) -> Job:
        try:
            if "shown" in params:
                check_count("files", params["shown"], PICTURES)
                params["shown"] = [self._take(one, request) for one in params["shown"]]
            return self.house.submit(kind, params, owner=owner_of(request), lane=lane_of(request), source="client")
        except ValueError as error:
            raise gr.Error(str(error), print_exception=False) from error

    def _done(self, job: Job) -> Job:
        done = self.house.jobs.get(job.id)
        if done.state != "done":
            raise gr.Error(done.error or f"the job was {done.state}", print_exception=False)
        return done

    def _take(self, given: Any, request: gr.Request) -> str:
        path = given.get("path") if isinstance(given, dict) else getattr(given, "path", None)
        file = Path(str(path)).resolve()
        if not file.is_relative_to(Path(get_upload_folder()).resolve()) or not file.is_file():
            raise InputError("give files as handle_file(path): only what was uploaded is looked at")
        return take_in(
            self.house.media, file.read_bytes(), owner=owner_of(request), name=file.name, purpose="request"
        ).id


def _handed_out(asset: Any) -> gr.FileData:
    """A copy of a file in the folder from which the page gives files out, which it tidies itself."""
    folder = Path(tempfile.mkdtemp(dir=get_upload_folder()))
    path = shutil.copyfile(asset.path, folder / asset.name)
    return gr.FileData(path=str(path), orig_name=asset.name, mime_type=asset.type)
