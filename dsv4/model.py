"""The joined model: tokenizer, language core, eyes and hands, and the one place where the three packages meet.

Shape letters: B batch, T tokens, D hidden size of the core, V vision tokens.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.checkpoint.io import load_folder, save_folder
from dsv4.engine.generate import Prompt
from dsv4.errors import unknown

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from dsv4.core.model import LanguageCore
    from dsv4.model_input import ModelInput
    from dsv4.tokenizer import Tokenizer
    from generation.head import JointHead
    from vision import DeepEncoder

SIZES = ("nano", "micro")


@dataclass
class Model:
    """A tokenizer, a core, and the parts that were built for it; `head` and `eyes` may be absent."""

    tokenizer: Tokenizer
    core: LanguageCore
    eyes: DeepEncoder | None
    head: JointHead | None
    about: dict[str, Any]

    @classmethod
    def fresh(cls, tokenizer: Tokenizer, *, size: str = "nano") -> Model:
        """A model with random weights (seed the global generator first); `size` is nano, or micro for tests."""
        from dsv4.core import presets
        from dsv4.core.model import LanguageCore

        if size not in SIZES:
            raise unknown("size", size, SIZES)
        vision, generation = part("vision"), part("generation")
        config = getattr(presets, size)(vocab_size=tokenizer.vocab_size)
        core = LanguageCore.from_config(config, canonical_ids=tokenizer.canonical_ids)
        eyes_config = getattr(vision.DeepEncoderConfig, size)()
        eyes = vision.DeepEncoder(dataclasses.replace(eyes_config, out_dim=config.hidden))
        head = generation.JointHead(getattr(generation.JointHeadConfig, size)(tap_dim=config.hidden))
        return cls(tokenizer=tokenizer, core=core, eyes=eyes, head=head, about={"name": size, "size": size})

    @classmethod
    def load(cls, folder: Path) -> Model:
        """Read a folder written by `save`; raises InputError when it is not one or not complete."""
        from dsv4.tokenizer import Tokenizer

        tensors, about = load_folder(folder)
        model = cls.fresh(Tokenizer.from_file(folder / "tokenizer.json"), size=about["size"])
        model.about = about
        there = {key.split(".", 1)[0] for key in tensors}
        model.eyes = model.eyes if "eyes" in there else None
        model.head = model.head if "head" in there else None
        for name, module in model.parts().items():
            own = {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}
            module.load_state_dict(own)
            module.eval().requires_grad_(False)
        return model

    def save(self, folder: Path, *, policy: Any, about: dict[str, Any]) -> int:
        """Write weights (quantised by `policy`) and tokenizer; return the bytes of weights."""
        tensors = {
            f"{name}.{key}": value for name, module in self.parts().items() for key, value in module.state_dict().items()
        }
        written = save_folder(folder, tensors, policy=policy, about=about)
        self.tokenizer.save(folder / "tokenizer.json")
        return written

    def parts(self) -> dict[str, torch.nn.Module]:
        """The modules that are there, by the name their weights are stored under."""
        named = {"core": self.core, "eyes": self.eyes, "head": self.head}
        return {name: module for name, module in named.items() if module is not None}

    def embed(self, given: ModelInput) -> Prompt:
        """Splice picture features into the token embeddings; Engram is closed at picture places.

        Raises ValueError when there are views but no eyes.
        """
        import torch

        if not given.views:
            return Prompt(token_ids_BT=given.token_ids_BT)
        if self.eyes is None:
            raise ValueError("this model has no eyes, so it cannot take pictures")
        with torch.inference_mode():
            embeds_BTD = self.core.embed(given.token_ids_BT).clone()
            for view, (start, stop) in zip(given.views, given.image_spans, strict=True):
                embeds_BTD[0, start:stop] = self.eyes(view).to(embeds_BTD.dtype)
        return Prompt(token_ids_BT=given.token_ids_BT, embeds_BTD=embeds_BTD, memory_ids_BT=given.memory_ids_BT)

    def taps(self, token_ids_BT: Tensor) -> tuple[Tensor, ...]:
        """The core's states that condition the head: three tensors [B, T, D]."""
        import torch

        with torch.inference_mode():
            return self.core(token_ids_BT, taps=tap_blocks(self.core.config.layers), last_only=True).taps


def tap_blocks(layers: int) -> tuple[int, int, int]:
    """After which blocks the head reads the core: a third, two thirds and the whole of the way."""
    return (max(1, layers // 3), max(1, 2 * layers // 3), layers)
