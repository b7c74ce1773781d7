"""The studio: one model behind six verbs, each taking a prompt and giving a value that can be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import asset, part
from dsv4.errors import InputError, unknown
from dsv4.finish import (
    Answer,
    as_frame_3HW,
    check_candidates,
    clip_before_FHW3,
    closed_in_answers,
    continued,
    drawn,
    enlarged,
    first_frame_3HW,
    remembered,
    to_uint8,
    well_formed,
)
from dsv4.results import BatchReport, ChatStream, Clip, Picture, Progress, Reply, Svg
from dsv4.scene_parts import DrawingPlan, planned
from dsv4.spelling import Corrected, Speller

if TYPE_CHECKING:
    import numpy as np
    import torch
    from PIL.Image import Image as PilImage

    from dsv4.chat_format import Call
    from dsv4.checkpoint.placement import Placement
    from dsv4.engine.prefix import PrefixCache
    from dsv4.messages import Document, Image, Message, Repo, Video
    from dsv4.model import Model
    from dsv4.reading import Page, ReadStream
    from dsv4.remote import RemoteStudio
    from dsv4.together import Together

Cancelled = Callable[[], bool] | None
OnProgress = Callable[[Progress], None] | None

SHIPPED = ("nano",)
# What a model of ours is asked for a task of reading; tasks that need grounding are for models trained on it.
ASKED = {task: "What does it say?" for task in ("markdown", "ocr", "text")} | {"describe": "What is in this picture?"}
PREVIEW_EVERY = 16  # SVG tokens between two previews


class Studio:
    """A loaded model with `chat`, `read`, `svg`, `image`, `video` and `batch`."""

    def __init__(self, model: Model, *, name: str, fingerprint: str) -> None:
        from dsv4.engine.replay import replays_of
        from dsv4.processor import Processor

        self.model, self.name, self.fingerprint = model, name, fingerprint
        self.processor = Processor(model.tokenizer, talks=model.talks)
        self.source = name  # what `load` takes to have this studio again
        self.prefixes: PrefixCache | None = remembered(model, fingerprint)
        self.speller = Speller.of(model.spelling)
        self._replays = replays_of(model.core)

    @classmethod
    def load(cls, name: str | PathLike[str] = "nano", *, placement: Placement | None = None) -> Studio:
        """Load a shipped model by name, or a folder that `Model.save` wrote; InputError when it is neither.

        placement: where parts of the core lie (`dsv4.checkpoint.placement`).
        """
        from dsv4.model import Model

        folder = asset(str(name)) if str(name) in SHIPPED else Path(name)
        if str(name) not in SHIPPED and not folder.is_dir():
            raise unknown("model", str(name), [*SHIPPED, "echo", "a folder of weights"])
        model = Model.load(folder, placement)
        digest = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()[:16]
        studio = cls(model, name=str(name) if str(name) in SHIPPED else folder.name, fingerprint=digest)
        studio.source = str(name) if str(name) in SHIPPED else str(folder.resolve())
        return studio

    @staticmethod
    def connect(url: str, *, model: str | None = None, key: str | None = None) -> RemoteStudio:
        """The same verbs, done by an OpenAI-compatible server; `key` or DSV4_API_KEY opens it. See `dsv4.remote`."""
        from dsv4.remote import RemoteStudio

        return RemoteStudio(url, model=model, key=key)

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
        """Answer a question, about pictures, a repository or neither; iterate for the text as it comes.

        The answer may be a call of the hands (`reply.call`), which `perform` carries out. A mistyped word is read as
        the one that was meant, here and by the verbs below, unless `correct` is False or it stands in quotes;
        `reply.corrected` says so.
        """
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens)
        limits.check_correct(correct)
        limits.check_count("messages of history", history, limits.HISTORY_MESSAGES)
        read = Corrected(prompt)
        if correct:
            read, history = self.speller.conversation(prompt, pictures, history)
        given = self.processor.chat(read.text, pictures, mode=mode, history=history)
        answer = Answer(self.model.tokenizer)

        def write(stop: Callable[[], bool]) -> Iterator[str]:
            ready = self.model.embed(given)
            closed = closed_in_answers(self.model.tokenizer, calls=self.model.talks)
            for token in self._generate(ready, max_tokens, temperature, seed, closed, stop, answer):
                delta = answer.push(token)
                if delta:
                    yield delta

        def finish(text: str, was_cancelled: bool) -> Reply:
            made_by = self._made_by("chat", read, seed, mode=mode, temperature=temperature)
            return answer.reply(text, given, cancelled=was_cancelled, max_tokens=max_tokens, made_by=made_by)

        return ChatStream(write, finish, cancelled=cancelled)

    def perform(
        self, call: Call, *, seed: int = 0, on_progress: OnProgress = None, cancelled: Cancelled = None
    ) -> Svg | Picture | Clip:
        """What a reply asked the hands for (`reply.call`), made by the verb of that name."""
        made: Svg | Picture | Clip = getattr(self, call.kind)(
            call.prompt, seed=seed, correct=False, on_progress=on_progress, cancelled=cancelled
        )
        return made

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
        """Draw an icon, a drawing or a scene as safe, editable SVG; always well-formed.

        A motion at the prompt's end ("a star bouncing") sets what was drawn in motion. Of several `candidates`, from
        seeds one after the other, the one is kept that looks most like the others. A scene of two or three things is
        put together of drawings of each (the provenance's settings say `made_by`: parts), of `max_tokens` each: things
        with long drawings have no room in scenes that are drawn whole.

        A `picture` is described by the eyes, drawn as described (or as the prompt says, if there is one) and fitted to
        the picture; where that is not like it and the picture is flat, as a logo is, its outlines are traced. `trace`
        "never" leaves that out, "always" traces any picture at once: see `dsv4.redraw`.
        """
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens, candidates=candidates)
        limits.check_trace(trace)
        read = self._read(prompt, correct)
        if picture is not None:
            from dsv4.redraw import redrawn

            told = {"seed": seed, "temperature": temperature, "max_tokens": max_tokens, "candidates": candidates}
            told |= {"trace": trace, "on_progress": on_progress, "cancelled": cancelled}
            made = redrawn(self, picture, read.text, **told)
            return replace(made, provenance={**made.provenance, **_told(read)})
        check_candidates(candidates, temperature)
        plan = planned(read.text, candidates)
        self.processor.svg(plan.request)  # refuses what is too long, which its parts may not be
        given = [self.processor.svg(one) for one in plan.prompts]
        ready = [self.model.embed(one) for one in given]
        draw = partial(
            self._draw, max_tokens=max_tokens, temperature=temperature, on_progress=on_progress, cancelled=cancelled
        )
        attempts: list[list[int]] = []
        for turn in range(candidates):
            if cancelled is not None and cancelled() and attempts:
                break
            attempts.append(_attempt(plan, ready, partial(draw, seed=seed + turn), cancelled))
        told = {"temperature": temperature, "max_tokens": max_tokens, "candidates": candidates, **plan.told}
        made_by = self._made_by("svg", read, seed, **told)
        return drawn(attempts, read=sum(one.length for one in given), prompt=read.text, made_by=made_by)

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
        """Paint a picture of `size` pixels a side: at a size that is learnt, then scaled smoothly from there.

        guidance: how closely the words are obeyed; None takes what suits the number of steps.
        """
        limits.check_size(size)
        limits.check_numbers(seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        read = self._read(prompt, correct)
        ids_BT = self.processor.image(read.text).token_ids_BT
        painted = limits.painted_size(size)

        def show(progress: Progress) -> None:
            if on_progress is not None and progress.preview is not None:
                on_progress(replace(progress, preview=enlarged(progress.preview, size)))

        frames = self._flow(ids_BT, (1, painted, painted), seed, steps, guidance, None, show, cancelled)
        made_by = self._made_by("image", read, seed, size=size, painted=painted, steps=steps, guidance=guidance)
        return Picture(array=enlarged(frames[0], size), provenance=made_by)

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
        """Animate a clip; `first_frame` is kept as it is and moved on from.

        `after` is a clip that is gone on with from its last frame, and stands in front of what is made; how fast it
        moved is not known to the model. Nano learnt two seconds; what is longer moves more slowly.
        """
        limits.check_numbers(seconds=seconds, seed=seed, steps=steps)
        guidance = limits.guidance_for(steps, guidance)
        limits.check_clip(seconds, first_frame, after)
        read = self._read(prompt, correct)
        ids_BT = self.processor.video(read.text).token_ids_BT
        side, count = limits.CLIP_SIZE, limits.clip_frames(seconds)
        before = clip_before_FHW3(after, side, count) if after is not None else None
        first = first_frame_3HW(first_frame, side) if first_frame is not None else None
        first = first if before is None else as_frame_3HW(before[-1])
        frames = self._flow(ids_BT, (count, side, side), seed, steps, guidance, first, on_progress, cancelled)
        frames = frames if before is None else continued(before, frames)
        told = {} if after is None else {"after": after.source.name}
        made_by = self._made_by("video", read, seed, seconds=seconds, steps=steps, guidance=guidance, **told)
        return Clip(frames=frames, fps=limits.CLIP_FPS, provenance=made_by)

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
        """Read a document page by page; iterate for the text as it comes. `dsv4.reading` says what a page holds."""
        from dsv4.ocr.writer import TokenWriter
        from dsv4.reading import ReadStream, check_task, with_pages

        limits.check_numbers(max_tokens=max_tokens)
        chosen, asked = limits.check_tiles(mode, tiles), ASKED[check_task(task, find, tuple(ASKED))]

        def write(picture: PilImage, stop: Callable[[], bool]) -> TokenWriter:
            given = self.processor.page(asked, picture, chosen)
            closed = closed_in_answers(self.model.tokenizer, thinking=False)
            tokens = self._generate(self.model.embed(given), max_tokens, 0.0, 0, closed, stop)
            return TokenWriter(
                tokens,
                self.model.tokenizer.decode,
                max_tokens=max_tokens,
                read=given.length,
                pictures=given.views[0].tokens,
                cancelled=stop,
            )

        made_by = self._made_by("read", Corrected(asked), 0, mode=mode, what=task, max_tokens=max_tokens)
        return ReadStream(with_pages(source, pages), write, provenance=made_by, on_page=on_page, cancelled=cancelled)

    def batch(
        self, jobs: str | PathLike[str] | Iterable[Mapping[str, Any]], *, out: str | PathLike[str]
    ) -> BatchReport:
        """Run a file or an iterable of rows, restartable; see `dsv4.batch`."""
        from dsv4.batch import run_batch

        return run_batch(self, jobs, out=out)

    @property
    def together(self) -> Together:
        """The same verbs for many requests in one pass; what batches use."""
        from dsv4.together import Together

        return Together(self.model, self.processor, self._made_by, self.speller)

    def _draw(
        self,
        ready: Any,
        max_tokens: int,
        temperature: float,
        seed: int,
        on_progress: OnProgress,
        cancelled: Cancelled,
    ) -> list[int]:
        """The drawing tokens of one attempt; the mask closes it within `max_tokens`."""
        svg, tokenizer = part("generation.svg"), self.model.tokenizer
        constraint = well_formed(tokenizer, max_tokens)
        local: list[int] = []
        for token in self._generate(ready, max_tokens + 1, temperature, seed, constraint, cancelled):
            local.append(token - tokenizer.svg_offset)
            if on_progress is not None and len(local) % PREVIEW_EVERY == 0:
                on_progress(Progress(step=len(local), total=max_tokens, preview=svg.partial(local)))
        return local

    def _generate(
        self,
        ready: Any,
        max_tokens: int,
        temperature: float,
        seed: int,
        constraint: Any,
        cancelled: Cancelled,
        answer: Answer | None = None,
    ) -> Iterator[int]:
        import torch

        from dsv4.engine.generate import generate

        return generate(
            self.model.core,
            ready,
            max_tokens=max_tokens,
            stop=frozenset({self.model.tokenizer.id_of("<|eos|>")}),
            temperature=temperature,
            generator=torch.Generator().manual_seed(seed),
            constraint=constraint,
            cancelled=cancelled,
            prefixes=None if answer is None else self.prefixes,  # only conversations begin alike
            on_read=None if answer is None else answer.knew,
            replays=self._replays,
        )

    def _flow(
        self,
        ids_BT: torch.Tensor,
        shape: tuple[int, int, int],
        seed: int,
        steps: int,
        guidance: float,
        first_3HW: torch.Tensor | None,
        on_progress: OnProgress,
        cancelled: Cancelled,
    ) -> np.ndarray:
        """Frames uint8 [F, H, W, 3] for a prompt's ids."""
        import torch

        head = self.model.head
        if head is None:
            raise InputError("this model has no picture head, so it makes neither pictures nor clips")
        generation = part("generation")
        head.half_precision()

        def show(step: int, total: int, frames_B3FHW: torch.Tensor) -> None:
            if on_progress is not None:
                preview = to_uint8(frames_B3FHW[0])
                on_progress(Progress(step=step, total=total, preview=preview[0] if shape[0] == 1 else preview))

        with torch.inference_mode():
            mask_BT = torch.ones_like(ids_BT, dtype=torch.bool)
            condition = head.condition(self.model.taps(ids_BT), mask_BT)
            frames_B3FHW = generation.sample_flow(
                head,
                condition,
                shape=shape,
                steps=steps,
                guidance=guidance,
                seeds=[seed],
                first_frame=None if first_3HW is None else first_3HW[None],
                on_step=show,
                cancelled=cancelled,
            )
        if not bool(frames_B3FHW.isfinite().all()):
            raise RuntimeError("the model wrote numbers that are no pixels; its weights or its device are broken")
        return to_uint8(frames_B3FHW[0])

    def _read(self, prompt: str, correct: bool) -> Corrected:
        """A request for something to be drawn, painted or filmed, as it is read."""
        limits.check_correct(correct)
        return self.speller.correct(prompt, drawing=True) if correct and isinstance(prompt, str) else Corrected(prompt)

    def _made_by(self, task: str, read: Corrected, seed: int, **settings: float | int | str) -> dict[str, Any]:
        model = f"{self.name} ({self.fingerprint})"
        made_by = {"task": task, "prompt": read.text.strip(), "seed": seed, "model": model, "settings": settings}
        return {**made_by, **_told(read)}


def _told(read: Corrected) -> dict[str, Any]:
    """What the provenance says of how a request was read."""
    told: dict[str, Any] = {"corrected": dict(read.changes)} if read.changes else {}
    return told | ({"untaught": list(read.untaught)} if read.untaught else {})


def _attempt(
    plan: DrawingPlan, ready: Iterable[Any], draw: Callable[[Any], list[int]], cancelled: Cancelled
) -> list[int]:
    """The tokens of one attempt; where it is cancelled, those of what was being drawn, as far as they go."""
    drawings: list[list[int]] = []
    for one in ready:
        drawings.append(draw(one))
        if cancelled is not None and cancelled():
            return drawings[-1]
    return plan.together(drawings)
