"""A studio without a model: every verb answers in milliseconds with a real, valid result that repeats the request.

It is what the page, the server, the command line and the batch runner are tested against. Needs no torch.
Shape letters: F frames, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from html import escape
from os import PathLike
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.finish import clip_before_FHW3, continued
from dsv4.instructions import MOTION_SECONDS, poses_of, split_motion
from dsv4.messages import Repo
from dsv4.pictures_in import open_pictures
from dsv4.redraw import redrawn
from dsv4.repository.walk import walk
from dsv4.results import BatchReport, ChatStream, Clip, Picture, Progress, Reply, Svg, Usage

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image as PilImage

    from dsv4.messages import Document, Image, Message, Video
    from dsv4.reading import Page, ReadStream, Stopped

Cancelled = Callable[[], bool] | None
OnProgress = Callable[[Progress], None] | None


class EchoStudio:
    """The verbs of `Studio`, with the same arguments and the same refusals of bad input; it has no list of words."""

    name = "echo"
    fingerprint = "echo-1"

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
        """Repeat the prompt word by word, and say how large the pictures are."""
        text = limits.check_prompt(prompt)
        limits.check_mode(mode)
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens)
        limits.check_correct(correct)
        limits.check_count("messages of history", history, limits.HISTORY_MESSAGES)
        repos = [one for one in pictures if isinstance(one, Repo)]
        shown = open_pictures([one for one in pictures if not isinstance(one, Repo)])
        seen = [f"[a picture of {one.width} x {one.height}]" for one in shown]
        seen += [f"[a repository of {len(walk(one.source, ignore=one.ignore).files)} files]" for one in repos]
        words = [*seen, *text.split()]
        kept = words[:max_tokens]

        def write(stop: Callable[[], bool]) -> Iterator[str]:
            for index, word in enumerate(kept):
                if stop():
                    return
                yield word if index == 0 else f" {word}"

        def finish(said: str, was_cancelled: bool) -> Reply:
            stopped = "cancelled" if was_cancelled else "length" if len(kept) < len(words) else "end"
            usage = Usage(read=len(text.split()), written=len(said.split()))
            made_by = self._provenance("chat", text, seed, mode=mode, temperature=temperature, max_tokens=max_tokens)
            return Reply(text=said, provenance=made_by, stopped=stopped, usage=usage)

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
        """A disc whose colour comes from the prompt and the seed, moving if the prompt says so.

        A picture without a prompt is a picture of its size; with `trace` "always" it is traced, which needs no model.
        """
        limits.check_correct(correct)
        limits.check_trace(trace)
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens, candidates=candidates)
        if picture is not None and trace == "always":
            return redrawn(self, picture, prompt, trace=trace, seed=seed)
        if picture is not None and not prompt.strip():
            (opened,) = open_pictures([picture])
            prompt = f"a picture of {opened.width} x {opened.height}"
        text = limits.check_prompt(prompt)
        red, green, blue = _colour(text, seed)
        drawing = (
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">\n'
            f"  <title>{escape(_printable(text))}</title>\n"
            f'  <circle cx="48" cy="48" r="40" fill="#{red:02x}{green:02x}{blue:02x}"/>\n'
            "</svg>\n"
        )
        _, motion = split_motion(text)
        if motion is not None:
            drawing = part("generation.svg").moving(drawing, poses_of(motion), MOTION_SECONDS)
        _steps(1, on_progress, cancelled, lambda _: drawing)
        made_by = self._provenance("svg", text, seed, temperature=temperature, max_tokens=max_tokens)
        return Svg(text=drawing, raw=drawing, provenance=made_by, usage=Usage(read=len(text.split()), written=25))

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
        """A square on a ground, both coloured by the prompt and the seed."""
        text = limits.check_prompt(prompt)
        limits.check_correct(correct)
        limits.check_size(size)
        limits.check_numbers(seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        picture_HW3 = _square(size, _colour(text, seed), left=size // 4)
        _steps(steps, on_progress, cancelled, lambda _: picture_HW3)
        made_by = self._provenance("image", text, seed, size=size, steps=steps, guidance=guidance)
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
        """A square that moves to the right, behind `first_frame` when there is one."""
        import numpy as np

        text = limits.check_prompt(prompt)
        limits.check_numbers(seconds=seconds, seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        limits.check_correct(correct)
        limits.check_clip(seconds, first_frame, after)
        count, side = limits.clip_frames(seconds), limits.CLIP_SIZE
        colour = _colour(text, seed)
        frames = [_square(side, colour, left=index * (side // 2) // count) for index in range(count)]
        if first_frame is not None:
            (opened,) = open_pictures([first_frame])
            frames[0] = np.asarray(opened.resize((side, side)), dtype=np.uint8)
        frames_FHW3 = np.stack(frames)
        if after is not None:
            frames_FHW3 = continued(clip_before_FHW3(after, side, count), frames_FHW3)
        _steps(steps, on_progress, cancelled, lambda _: frames_FHW3)
        made_by = self._provenance("video", text, seed, seconds=seconds, steps=steps, guidance=guidance)
        return Clip(frames=frames_FHW3, fps=limits.CLIP_FPS, provenance=made_by)

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
        """Say how large each page is and what it would cost, with one box around its middle."""
        from dsv4.reading import ReadStream, check_task, with_pages

        limits.check_numbers(max_tokens=max_tokens)
        chosen = limits.check_tiles(mode, tiles)
        check_task(task, find)

        def write(picture: PilImage, stop: Callable[[], bool]) -> _EchoPage:
            cost = chosen.num_tokens(*picture.size).sequence
            words = [f"A page of {picture.width} x {picture.height},", f"{cost} tokens", f"in mode {mode}."]
            return _EchoPage(["<|ref|>middle<|/ref|><|det|>[[250, 250, 749, 749]]<|/det|>", *words], cost, stop)

        made_by = self._provenance("read", find or task, 0, mode=mode, what=task, max_tokens=max_tokens)
        return ReadStream(with_pages(source, pages), write, provenance=made_by, on_page=on_page, cancelled=cancelled)

    def batch(
        self, jobs: str | PathLike[str] | Iterable[Mapping[str, Any]], *, out: str | PathLike[str]
    ) -> BatchReport:
        """Run a file or an iterable of rows; see `dsv4.batch`."""
        from dsv4.batch import run_batch

        return run_batch(self, jobs, out=out)

    def _provenance(self, task: str, prompt: str, seed: int, **settings: float | str) -> dict[str, Any]:
        return {"task": task, "prompt": prompt, "seed": seed, "model": self.name, "settings": settings}


class _EchoPage:
    """The pieces of an echoed page."""

    def __init__(self, words: list[str], cost: int, stop: Callable[[], bool]) -> None:
        self.raw, self.usage, self._words, self._stop = "", Usage(read=cost, pictures=cost), words, stop
        self.stopped: Stopped = "end"

    def __iter__(self) -> Iterator[str]:
        for word in self._words:
            if self._stop():
                self.stopped = "cancelled"
                return
            piece = f" {word}" if self.raw else word
            self.raw += piece
            yield piece
        self.usage = Usage(read=self.usage.read, written=len(self._words), pictures=self.usage.pictures)


def _steps(total: int, on_progress: OnProgress, cancelled: Cancelled, preview: Callable[[int], Any]) -> None:
    for step in range(1, total + 1):
        if cancelled is not None and cancelled():
            return
        if on_progress is not None:
            on_progress(Progress(step=step, total=total, preview=preview(step)))


def _colour(text: str, seed: int) -> tuple[int, int, int]:
    red, green, blue = hashlib.sha256(f"{seed}|{text}".encode()).digest()[:3]
    return red, green, blue


def _square(size: int, colour: tuple[int, int, int], *, left: int) -> np.ndarray:
    import numpy as np

    picture_HW3 = np.full((size, size, 3), 255, dtype=np.uint8)
    picture_HW3[size // 4 : -(size // 4), left : left + size // 2] = colour
    return picture_HW3


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)
