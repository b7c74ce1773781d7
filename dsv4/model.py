"""The joined model: tokenizer, language core, eyes and hands, and the one place where the three packages meet.

Shape letters: B batch, T tokens, D hidden size of the core, V vision tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.checkpoint.io import load_folder, part_names, read_index, save_folder
from dsv4.checkpoint.placement import Placement, load_at, place
from dsv4.engine.generate import Prompt
from dsv4.errors import InputError, unknown
from dsv4.spelling import FILE as SPELLING

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.model import LanguageCore
    from dsv4.model_input import ModelInput
    from dsv4.tokenizer import Tokenizer
    from generation.head import JointHead
    from vision import DeepEncoder

SIZES = ("nano", "micro")
CORE = "core"  # folder of a core that is stored as a checkpoint of its own


class Model:
    """A tokenizer, a core, and eyes and head where there are any; these two may be given as functions that build them.

    What is built late costs nothing until it is asked for: a question in words needs neither eyes nor head.
    """

    def __init__(
        self,
        *,
        tokenizer: Tokenizer,
        core: LanguageCore,
        eyes: DeepEncoder | Callable[[], DeepEncoder] | None = None,
        head: JointHead | Callable[[], JointHead] | None = None,
        about: dict[str, Any],
    ) -> None:
        self.tokenizer, self.core, self.about = tokenizer, core, about
        self.spelling = b""  # the list of words behind `dsv4.spelling`, as its file holds it; empty where there is none
        self._later: dict[str, Any] = {"eyes": eyes, "head": head}

    @property
    def talks(self) -> bool:
        """Whether it was taught conversations: what was said before, and calls of its hands."""
        return bool(self.about.get("talks"))

    @property
    def eyes(self) -> DeepEncoder | None:
        """The picture encoder, built now if it was not yet."""
        return self._built("eyes")

    @property
    def head(self) -> JointHead | None:
        """The picture and clip head, built now if it was not yet."""
        return self._built("head")

    @classmethod
    def fresh(cls, tokenizer: Tokenizer, *, size: str = "nano", keep: Collection[str] = ("eyes", "head")) -> Model:
        """A model with random weights (seed the global generator first); `size` is nano, or micro for tests."""
        core = _fresh_core(tokenizer, size)
        built = {name: _BUILD[name](size, core.config.hidden) for name in ("eyes", "head") if name in keep}
        return cls(tokenizer=tokenizer, core=core, about={"name": size, "size": size}, **built)

    @classmethod
    def load(cls, folder: Path, placement: Placement | None = None) -> Model:
        """Read a folder written by `save`, for use, with the core's parts where `placement` says.

        Raises InputError when it is not one or not complete, and for what cannot be placed so.
        """
        from dsv4.tokenizer import Tokenizer

        tensors, about = load_folder(folder, part="core")
        size, parts = about.get("size"), part_names(read_index(folder))
        tokenizer = Tokenizer.from_file(folder / "tokenizer.json")
        if (folder / CORE / "config.json").is_file():  # a core that `dsv4 quantize` wrote beside the other parts
            core = _core_beside(folder / CORE, tokenizer, placement or Placement())
        else:
            core = _fresh_core(tokenizer, size)
            _fill(core, tensors, folder, "core")
            if placement is not None and not placement.usual:
                place(core, placement)

        def later(name: str) -> Callable[[], Any]:
            def build() -> Any:
                module = _BUILD[name](size, core.config.hidden)
                _fill(module, load_folder(folder, part=name)[0], folder, name)
                return module.eval().requires_grad_(False)

            return build

        core.eval().requires_grad_(False)
        built = {name: later(name) for name in ("eyes", "head") if name in parts}
        model = cls(tokenizer=tokenizer, core=core, about=about, **built)
        model.spelling = (folder / SPELLING).read_bytes() if (folder / SPELLING).is_file() else b""
        return model

    def save(self, folder: Path, *, policy: Any, about: dict[str, Any]) -> int:
        """Write weights (quantised by `policy`), tokenizer and list of words; return the bytes of weights."""
        tensors = {
            f"{name}.{key}": value
            for name, module in self.parts().items()
            for key, value in module.state_dict().items()
        }
        written = save_folder(folder, tensors, policy=policy, about=about)
        self.tokenizer.save(folder / "tokenizer.json")
        if self.spelling:
            (folder / SPELLING).write_bytes(self.spelling)
        return written

    def parts(self) -> dict[str, torch.nn.Module]:
        """The modules that are there, by the name their weights are stored under."""
        named = {"core": self.core, "eyes": self.eyes, "head": self.head}
        return {name: module for name, module in named.items() if module is not None}

    def _built(self, name: str) -> Any:
        import torch

        if self._later[name] is not None and not isinstance(self._later[name], torch.nn.Module):
            self._later[name] = self._later[name]()
        return self._later[name]

    def embed(self, given: ModelInput) -> Prompt:
        """Splice picture features into the token embeddings; Engram is closed at picture places, or opened by codes.

        Raises ValueError when there are views but no eyes.
        """
        import torch

        if not given.views:
            return Prompt(token_ids_BT=given.token_ids_BT)
        if self.eyes is None:
            raise ValueError("this model has no eyes, so it cannot take pictures")
        with torch.inference_mode():
            embeds_BTD = self.core.embed(given.token_ids_BT).clone()
            seen = [self.eyes(view) for view in given.views]
            for features_VD, (start, stop) in zip(seen, given.image_spans, strict=True):
                embeds_BTD[0, start:stop] = features_VD.to(embeds_BTD.dtype)
        memory = self._memory(given, seen)
        return Prompt(token_ids_BT=given.token_ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=memory)

    def _memory(self, given: ModelInput, seen: list[Tensor]) -> Tensor:
        """What Engram hashes: the words alone, or with the n-grams of codes at picture places where the core asks."""
        import torch

        assert given.memory_ids_BT is not None and self.eyes is not None
        part = getattr(self.core.config, "engram", None)
        if part is None or not part.picture_bits:
            return given.memory_ids_BT
        codes_1TO = given.token_ids_BT.new_full((*given.token_ids_BT.shape, part.max_order), -1)
        for view, features_VD, (start, stop) in zip(given.views, seen, given.image_spans, strict=True):
            with torch.inference_mode():
                found_VO = self.eyes.codes(view, features_VD, bits=part.picture_bits, count=part.max_order)
            codes_1TO[0, start:stop] = found_VO.to(codes_1TO.device)
        return self.core.memory_ids(given.memory_ids_BT, codes_1TO)

    def taps(self, token_ids_BT: Tensor) -> tuple[Tensor, ...]:
        """The core's states that condition the head: three tensors [B, T, D]."""
        import torch

        with torch.inference_mode():
            return self.core(token_ids_BT, taps=tap_blocks(self.core.config.layers), last_only=True).taps


def _fill(module: torch.nn.Module, tensors: dict[str, Tensor], folder: Path, part_name: str) -> None:
    """Load weights that must be exactly those of the module; InputError names the first that are not."""
    wanted = {name: tuple(value.shape) for name, value in module.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in tensors.items()}
    for what, names in (
        ("lacks", [name for name in wanted if name not in given]),
        ("has no place for", [name for name in given if name not in wanted]),
        ("has another shape of", [name for name in wanted if given.get(name, wanted[name]) != wanted[name]]),
    ):
        if names:
            raise InputError(f"the {part_name} in {folder} {what} {', '.join(names[:3])} ({len(names)} such weights)")
    module.load_state_dict(tensors)


def _fresh_core(tokenizer: Tokenizer, size: str) -> LanguageCore:
    from dsv4.core import presets
    from dsv4.core.model import LanguageCore

    if size not in SIZES:
        raise unknown("size", size, SIZES)
    config = getattr(presets, size)(vocab_size=tokenizer.vocab_size)
    return LanguageCore.from_config(config, canonical_ids=tokenizer.canonical_ids)


def _core_beside(folder: Path, tokenizer: Tokenizer, placement: Placement) -> LanguageCore:
    core = load_at(folder, placement)
    if core.config.vocab_size != tokenizer.vocab_size:
        raise InputError(f"{folder} has {core.config.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}")
    return core


def _fresh_eyes(size: str, width: int) -> DeepEncoder:
    vision = part("vision")
    return vision.DeepEncoder(getattr(vision.DeepEncoderConfig, size)(out_dim=width))


def _fresh_head(size: str, width: int) -> JointHead:
    generation = part("generation")
    return generation.JointHead(getattr(generation.JointHeadConfig, size)(tap_dim=width))


_BUILD: dict[str, Callable[[str, int], Any]] = {"eyes": _fresh_eyes, "head": _fresh_head}


def tap_blocks(layers: int) -> tuple[int, int, int]:
    """After which blocks the head reads the core: a third, two thirds and the whole of the way."""
    return (max(1, layers // 3), max(1, 2 * layers // 3), layers)
