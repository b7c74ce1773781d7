"""The studio: one model behind five verbs, each taking a prompt and giving a value that can be saved."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import asset, part
from dsv4.errors import InputError, unknown
from dsv4.instructions import MOTION_SECONDS, poses_of, split_motion
from dsv4.results import BatchReport, ChatStream, Clip, Picture, Progress, Reply, Svg, Usage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dsv4.messages import Document, Image, Message, Video
    from dsv4.model import Model

Cancelled = Callable[[], bool] | None
OnProgress = Callable[[Progress], None] | None

SHIPPED = ("nano",)
PREVIEW_EVERY = 16  # SVG tokens between two previews


class Studio:
    """A loaded model with `chat`, `svg`, `image`, `video` and `batch`."""

    def __init__(self, model: Model, *, name: str, fingerprint: str) -> None:
        from dsv4.processor import Processor

        self.model, self.name, self.fingerprint = model, name, fingerprint
        self.processor = Processor(model.tokenizer)

    @classmethod
    def load(cls, name: str | PathLike[str] = "nano") -> Studio:
        """Load a shipped model by name, or a folder that `Model.save` wrote; InputError when it is neither."""
        from dsv4.model import Model

        folder = asset(str(name)) if str(name) in SHIPPED else Path(name)
        if str(name) not in SHIPPED and not folder.is_dir():
            raise unknown("model", str(name), [*SHIPPED, "echo", "a folder of weights"])
        model = Model.load(folder)
        digest = hashlib.sha256((folder / "model.json").read_bytes()).hexdigest()[:16]
        return cls(model, name=str(name) if str(name) in SHIPPED else folder.name, fingerprint=digest)

    def chat(
        self,
        prompt: str,
        *pictures: Image | Document | Video,
        mode: str = "tiny",
        history: tuple[Message, ...] = (),
        seed: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 160,
        cancelled: Cancelled = None,
    ) -> ChatStream:
        """Answer a question, about pictures or without; iterate for the text as it comes."""
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens)
        limits.check_count("messages of history", history, limits.HISTORY_MESSAGES)
        given = self.processor.chat(prompt, pictures, mode=mode, history=history)
        answer = _Answer(self.model.tokenizer)

        def write(stop: Callable[[], bool]) -> Iterator[str]:
            ready = self.model.embed(given)
            closed = self._closed_in_answers()
            for token in self._generate(ready, max_tokens, temperature, seed, closed, stop):
                delta = answer.push(token)
                if delta:
                    yield delta

        def finish(text: str, was_cancelled: bool) -> Reply:
            stopped = "cancelled" if was_cancelled else "length" if answer.written >= max_tokens else "end"
            seen = sum(stop - start for start, stop in given.image_spans)
            return Reply(
                text=text.strip(),
                thought=answer.thought,
                provenance=self._made_by("chat", prompt, seed, mode=mode, temperature=temperature),
                stopped=stopped,
                usage=Usage(read=given.length, written=answer.written, pictures=seen),
            )

        return ChatStream(write, finish, cancelled=cancelled)

    def svg(
        self,
        prompt: str,
        *,
        seed: int = 0,
        temperature: float = 0.0,
        max_tokens: int = 1200,
        candidates: int = 1,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Svg:
        """Draw an icon, a drawing or a scene as safe, editable SVG; always well-formed.

        A motion at the prompt's end ("a star bouncing") sets what was drawn in motion. Of several `candidates`, from
        seeds one after the other, the one is kept that looks most like the others.
        """
        limits.check_numbers(seed=seed, temperature=temperature, max_tokens=max_tokens, candidates=candidates)
        if candidates > 1 and temperature == 0:
            raise InputError("candidates are all alike at temperature 0; give a temperature too, for example 0.7")
        still, motion = split_motion(prompt)
        given = self.processor.svg(still)
        svg, ready = part("generation.svg"), self.model.embed(given)
        drawn: list[str] = []
        written = 0
        for turn in range(candidates):
            if cancelled is not None and cancelled() and drawn:
                break
            local = self._draw(ready, max_tokens, temperature, seed + turn, on_progress, cancelled)
            drawn.append(svg.partial(local))
            written += len(local)
        raw = drawn[svg.ranked(drawn)[0]] if len(drawn) > 1 else drawn[0]
        text = svg.rebuild(raw, title=prompt.strip())
        if motion is not None:
            text = svg.moving(text, poses_of(motion), MOTION_SECONDS)
        made_by = self._made_by(
            "svg", prompt, seed, temperature=temperature, max_tokens=max_tokens, candidates=candidates
        )
        return Svg(text=text, raw=raw, provenance=made_by, usage=Usage(read=given.length, written=written))

    def image(
        self,
        prompt: str,
        *,
        seed: int = 0,
        size: int = 128,
        steps: int = 8,
        guidance: float = 2.0,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Picture:
        """Paint a picture of `size` pixels a side: painted at the model's own size and enlarged smoothly from there."""
        limits.check_size(size)
        limits.check_numbers(seed=seed, steps=steps, guidance=guidance)
        ids_BT = self.processor.image(prompt).token_ids_BT
        painted = limits.PAINTED_SIZE

        def show(progress: Progress) -> None:
            if on_progress is not None and progress.preview is not None:
                on_progress(replace(progress, preview=enlarged(progress.preview, size)))

        frames = self._flow(ids_BT, (1, painted, painted), seed, steps, guidance, None, show, cancelled)
        made_by = self._made_by("image", prompt, seed, size=size, painted=painted, steps=steps, guidance=guidance)
        return Picture(array=enlarged(frames[0], size), provenance=made_by)

    def video(
        self,
        prompt: str,
        *,
        seconds: float = 2.0,
        seed: int = 0,
        steps: int = 8,
        guidance: float = 2.0,
        first_frame: Image | None = None,
        on_progress: OnProgress = None,
        cancelled: Cancelled = None,
    ) -> Clip:
        """Animate a clip; `first_frame` is kept as it is and moved on from."""
        limits.check_numbers(seconds=seconds, seed=seed, steps=steps, guidance=guidance)
        ids_BT = self.processor.video(prompt).token_ids_BT
        side, count = limits.CLIP_SIZE, limits.clip_frames(seconds)
        first = _first_frame(first_frame, side) if first_frame is not None else None
        frames = self._flow(ids_BT, (count, side, side), seed, steps, guidance, first, on_progress, cancelled)
        made_by = self._made_by("video", prompt, seed, seconds=seconds, steps=steps, guidance=guidance)
        return Clip(frames=frames, fps=limits.CLIP_FPS, provenance=made_by)

    def batch(
        self, jobs: str | PathLike[str] | Iterable[Mapping[str, Any]], *, out: str | PathLike[str]
    ) -> BatchReport:
        """Run a file or an iterable of rows, restartable; see `dsv4.batch`."""
        from dsv4.batch import run_batch

        return run_batch(self, jobs, out=out)

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
        from dsv4.engine.constraint import RangeConstraint

        svg, tokenizer = part("generation.svg"), self.model.tokenizer
        constraint = RangeConstraint(
            svg.SvgState(max_tokens=max_tokens),
            offset=tokenizer.svg_offset,
            size=tokenizer.svg_size,
            vocab_size=tokenizer.vocab_size,
            end=tokenizer.id_of("<|eos|>"),
        )
        local: list[int] = []
        for token in self._generate(ready, max_tokens + 1, temperature, seed, constraint, cancelled):
            local.append(token - tokenizer.svg_offset)
            if on_progress is not None and len(local) % PREVIEW_EVERY == 0:
                on_progress(Progress(step=len(local), total=max_tokens, preview=svg.partial(local)))
        return local

    def _generate(
        self, ready: Any, max_tokens: int, temperature: float, seed: int, constraint: Any, cancelled: Cancelled
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
        )

    def _closed_in_answers(self) -> Any:
        from dsv4.engine.constraint import Closed
        from dsv4.tokenizer import CONTROLS

        tokenizer = self.model.tokenizer
        named = [name for name in CONTROLS if name not in ("<|eos|>", "<think>", "</think>")]
        first = tokenizer.svg_offset
        closed = [tokenizer.id_of(name) for name in named] + list(range(first, first + tokenizer.svg_size))
        return Closed(closed, vocab_size=tokenizer.vocab_size)

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
        return to_uint8(frames_B3FHW[0])

    def _made_by(self, task: str, prompt: str, seed: int, **settings: float | int | str) -> dict[str, Any]:
        model = f"{self.name} ({self.fingerprint})"
        return {"task": task, "prompt": prompt.strip(), "seed": seed, "model": model, "settings": settings}


class _Answer:
    """Collects an answer token by token: keeps the thought apart and gives out only whole characters."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.opening, self.closing = tokenizer.id_of("<think>"), tokenizer.id_of("</think>")
        self.written = 0
        self.thought = ""
        self._thinking = False
        self._ids: list[int] = []
        self._given = ""

    def push(self, token: int) -> str:
        """The text that this token adds, often one word, empty inside a thought."""
        self.written += 1
        if token == self.opening:
            self._thinking = True
        elif token == self.closing:
            self._thinking, self.thought, self._ids = False, self.tokenizer.decode(self._ids), []
        else:
            self._ids.append(token)
        if self._thinking or token == self.closing:
            return ""
        text = self.tokenizer.decode(self._ids)
        if text.endswith("\ufffd"):  # the bytes of a character are still coming
            return ""
        delta, self._given = text[len(self._given) :], text
        return delta


def to_uint8(frames_3FHW: torch.Tensor) -> np.ndarray:
    """Frames in -1..1, shape [3, F, H, W], as uint8 [F, H, W, 3]."""
    scaled = ((frames_3FHW.float().clamp(-1, 1) + 1) * 127.5).round()
    return scaled.permute(1, 2, 3, 0).byte().cpu().numpy()


def enlarged(picture_HW3: np.ndarray, size: int) -> np.ndarray:
    """A square picture at another size, by Lanczos; the same picture at its own."""
    import numpy as np
    from PIL import Image

    if picture_HW3.shape[0] == size:
        return picture_HW3
    return np.asarray(Image.fromarray(picture_HW3).resize((size, size), Image.Resampling.LANCZOS))


def _first_frame(source: Image, side: int) -> torch.Tensor:
    import numpy as np
    import torch

    from dsv4.pictures_in import open_pictures

    (opened,) = open_pictures([source])
    pixels_HW3 = np.asarray(opened.convert("RGB").resize((side, side)), dtype=np.float32)
    return torch.from_numpy(pixels_HW3 / 127.5 - 1).permute(2, 0, 1)
