"""The last step of every verb: from tokens and frames to the results that people get, for one request or for many.

Shape letters: F frames, H height, W width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dsv4 import limits
from dsv4._parts import part
from dsv4.chat_format import TASKS, Call
from dsv4.errors import InputError
from dsv4.instructions import MOTION_SECONDS, poses_of, split_motion
from dsv4.pictures_in import open_pictures
from dsv4.results import Reply, Svg, Usage

if TYPE_CHECKING:
    import numpy as np
    import torch

    from dsv4.engine.prefix import PrefixCache
    from dsv4.messages import Image, Video
    from dsv4.model_input import ModelInput
    from dsv4.tokenizer import Tokenizer


class Answer:
    """Collects an answer token by token: keeps the thought apart and gives out only whole characters."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.opening, self.closing = tokenizer.id_of("<think>"), tokenizer.id_of("</think>")
        self.tasks = {tokenizer.id_of(name): kind for kind, name in TASKS.items()}
        self.kind = ""  # of a call
        self.written = self.cached = 0
        self.thought = ""
        self._thinking = False
        self._ids: list[int] = []
        self._given = ""

    def knew(self, tokens: int) -> None:
        """Take note of how many tokens of the prompt did not need to be read."""
        self.cached = tokens

    def push(self, token: int) -> str:
        """The text that this token adds, often one word, empty inside a thought."""
        self.written += 1
        if token == self.opening:
            self._thinking = True
        elif token == self.closing:
            self._thinking, self.thought, self._ids = False, self.tokenizer.decode(self._ids), []
        elif token in self.tasks:
            self.kind = self.kind or ("" if self._ids or self._thinking else self.tasks[token])
        else:
            self._ids.append(token)
        if self._thinking or token == self.closing:
            return ""
        text = (f"{self.kind}: " if self.kind else "") + self.tokenizer.decode(self._ids)
        if text.endswith("\ufffd"):  # the bytes of a character are still coming
            return ""
        delta, self._given = text[len(self._given) :], text
        return delta

    def reply(
        self, text: str, given: ModelInput, *, cancelled: bool, max_tokens: int, made_by: Mapping[str, Any]
    ) -> Reply:
        """The whole answer, when `text` is all that was given out."""
        stopped = "cancelled" if cancelled else "length" if self.written >= max_tokens else "end"
        seen = sum(stop - start for start, stop in given.image_spans)
        usage = Usage(read=given.length, written=self.written, pictures=seen, cached=self.cached)
        call = Call.parse(text.strip()) if self.kind else None
        return Reply(
            text=text.strip(), thought=self.thought, provenance=made_by, stopped=stopped, usage=usage, call=call
        )


def remembered(model: Any, fingerprint: str) -> PrefixCache | None:
    """Snapshots for the conversations of a model with a core of ours, in memory; None for any other."""
    if not isinstance(getattr(model.tokenizer, "fingerprint", None), str) or not hasattr(model.core, "new_cache"):
        return None
    from dsv4.engine.prefix import PrefixCache

    closers = frozenset(model.tokenizer.id_of(name) for name in ("<|assistant|>", "<|eos|>"))
    places = frozenset({model.tokenizer.id_of("<|image|>")})
    return PrefixCache(f"{fingerprint} {model.tokenizer.fingerprint}", closers=closers, runs=places)


def closed_in_answers(tokenizer: Tokenizer, *, thinking: bool = True, calls: bool = False) -> Any:
    """The constraint of an answer: no token of a drawing, and no control token but those of a thought and of calls."""
    from dsv4.engine.constraint import Closed
    from dsv4.tokenizer import CONTROLS

    open_to_it = ("<|eos|>", *(("<think>", "</think>") if thinking else ()), *(TASKS.values() if calls else ()))
    named = [name for name in CONTROLS if name not in open_to_it]
    first = tokenizer.svg_offset
    closed = [tokenizer.id_of(name) for name in named] + list(range(first, first + tokenizer.svg_size))
    return Closed(closed, vocab_size=tokenizer.vocab_size)


def well_formed(tokenizer: Tokenizer, max_tokens: int) -> Any:
    """The constraint of a drawing: well-formed, inside its canvas, and closed after `max_tokens` at the latest."""
    from dsv4.engine.constraint import RangeConstraint

    return RangeConstraint(
        part("generation.svg").SvgState(max_tokens=max_tokens),
        offset=tokenizer.svg_offset,
        size=tokenizer.svg_size,
        vocab_size=tokenizer.vocab_size,
        end=tokenizer.id_of("<|eos|>"),
    )


def check_candidates(candidates: int, temperature: float) -> None:
    """Raise InputError for several drawings that would all be the same."""
    if candidates > 1 and temperature == 0:
        raise InputError("candidates are all alike at temperature 0; give a temperature too, for example 0.7")


def drawn(attempts: Sequence[Sequence[int]], *, read: int, prompt: str, made_by: Mapping[str, Any]) -> Svg:
    """A drawing from its tokens, counted from the first SVG token, set in motion where the prompt ends in one.

    Of several attempts, the one that looks most like the others.
    """
    svg = part("generation.svg")
    raws = [svg.partial(list(local)) for local in attempts]
    raw = raws[svg.ranked(raws)[0]] if len(raws) > 1 else raws[0]
    text = svg.rebuild(raw, title=prompt.strip())
    motion = split_motion(prompt)[1]
    if motion is not None:
        text = svg.moving(text, poses_of(motion), MOTION_SECONDS)
    usage = Usage(read=read, written=sum(map(len, attempts)))
    return Svg(text=text, raw=raw, provenance=made_by, usage=usage)


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


def clip_before_FHW3(source: Video, side: int, more: int) -> np.ndarray:
    """A clip that is gone on with, uint8 [F, side, side, 3] at our rate of frames; `more` frames will follow.

    Raises InputError if it cannot be read, or if it would become too long.
    """
    import numpy as np
    from PIL import Image

    clips = part("generation.clips")
    try:
        known = clips.read_clip(source.source, 1)
        count = max(1, round(known.total / (known.fps or limits.CLIP_FPS) * limits.CLIP_FPS))
        if count + more > limits.CLIP_FRAMES:
            raise InputError(f"the clip would have {count + more - 1} frames; at most {limits.CLIP_FRAMES} are made")
        read = clips.read_clip(source.source, None if count >= known.total else count)
    except (ValueError, OSError) as error:
        raise InputError(str(error)) from error
    # Shorter rates are brought to ours by showing frames again.
    places = np.linspace(0, len(read.frames_NHW3) - 1, count).round().astype(int)
    return np.stack([np.asarray(Image.fromarray(read.frames_NHW3[place]).resize((side, side))) for place in places])


def continued(before_FHW3: np.ndarray, made_FHW3: np.ndarray) -> np.ndarray:
    """Both clips as one: the first frame of what was made is the last of what stood before."""
    import numpy as np

    return np.concatenate([before_FHW3, made_FHW3[1:]])


def first_frame_3HW(source: Image, side: int) -> torch.Tensor:
    """A picture as the first frame of a clip, [3, side, side] in -1..1; raises InputError if it cannot be opened."""
    import numpy as np

    (opened,) = open_pictures([source])
    return as_frame_3HW(np.asarray(opened.convert("RGB").resize((side, side))))


def as_frame_3HW(pixels_HW3: np.ndarray) -> torch.Tensor:
    """Bytes [H, W, 3] as a frame in -1..1."""
    import torch

    return torch.tensor(pixels_HW3, dtype=torch.float32).permute(2, 0, 1) / 127.5 - 1
