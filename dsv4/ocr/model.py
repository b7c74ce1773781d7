"""DeepSeek-OCR around any language core: prompts, places of pictures, and a page's text token by token.

The core is anything with `LanguageCore`'s `embed`, `new_cache` and call; the eyes are a `vision.DeepEncoder` whose
`out_dim` is the core's width. Source: DeepSeek-OCR (arXiv 2510.18234) and the prompts in its README.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dsv4._parts import part
from dsv4.engine.generate import generate
from dsv4.engine.repeats import NoRepeat
from dsv4.errors import InputError, unknown
from dsv4.limits import check_numbers, check_tiles
from dsv4.model import Model
from dsv4.model_input import ModelInput
from dsv4.ocr.tokenizer import GROUNDING, IMAGE, TABLE_TAGS, ReleasedTokenizer
from dsv4.ocr.writer import TokenWriter
from dsv4.reading import ReadStream, check_task, with_pages

if TYPE_CHECKING:
    from PIL.Image import Image as PilImage

    from dsv4.messages import Document, Image
    from dsv4.reading import Page
    from vision import DeepEncoder
    from vision.modes import Mode

# What stands behind the picture, without its line break. The models were trained on exactly these words: they are
# neither translated nor reworded. `{}` is what is looked for.
PROMPTS: dict[str, tuple[str, ...]] = {
    "markdown": (GROUNDING, "Convert the document to markdown."),
    "ocr": (GROUNDING, "OCR this image."),
    "text": ("Free OCR.",),
    "figure": ("Parse the figure.",),
    "describe": ("Describe this image in detail.",),
    "locate": ("Locate ", "<|ref|>", "{}", "<|/ref|>", " in the image."),
}
OTHER_VERBS = ("chat", "svg", "image", "video", "batch")
PHRASE, WINDOW = 30, 90  # no phrase of so many tokens comes twice in so many
DPI = {"gundam-m": 200}  # as the paper draws pages for this mode; others take the usual


def is_released(folder: str | Path) -> bool:
    """Whether a folder is laid out as a release of others, and not as one of ours."""
    folder = Path(folder)
    return (folder / "config.json").is_file() and not (folder / "model.json").exists()


@dataclass(frozen=True, kw_only=True, eq=False)
class OcrModel:
    """Eyes, a language core and a released tokenizer; `read` is its one verb."""

    eyes: DeepEncoder
    core: Any
    tokenizer: ReleasedTokenizer
    name: str = "ocr"

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> OcrModel:
        """The whole of a released folder: eyes, language part and tokenizer; InputError as `from_folder`."""
        from dsv4.core.model import LanguageCore

        ReleasedTokenizer.from_folder(folder)  # what is missing is said before gigabytes are read
        return cls.from_folder(folder, core=LanguageCore.from_pretrained(folder))

    def __getattr__(self, name: str) -> Any:
        if name in OTHER_VERBS:
            raise InputError(f"the model '{self.name}' reads documents (`read`); `{name}` needs another model")
        if name == "fingerprint":  # what batches and the page tell models apart by
            raise InputError(f"the model '{self.name}' reads documents (`dsv4 read`); all else needs another model")
        raise AttributeError(f"'OcrModel' object has no attribute '{name}'")

    @classmethod
    def from_folder(cls, folder: str | Path, *, core: Any) -> OcrModel:
        """Eyes and tokenizer of a released folder around its loaded language part.

        Raises InputError when something is missing, broken or does not fit together.
        """
        tokenizer = ReleasedTokenizer.from_folder(folder)
        try:
            eyes = part("vision").DeepEncoder.from_pretrained(folder)
        except ValueError as error:
            raise InputError(str(error)) from error
        return cls(eyes=eyes.requires_grad_(False), core=core, tokenizer=tokenizer, name=Path(folder).name)

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
        cancelled: Callable[[], bool] | None = None,
    ) -> ReadStream:
        """Read a document page by page; iterate for the text as it comes."""
        chosen = check_tiles(mode, tiles)
        check_numbers(max_tokens=max_tokens)
        check_task(task, find)

        def write(picture: PilImage, stop: Callable[[], bool]) -> TokenWriter:
            return self.page(picture, chosen, task=task, find=find, max_tokens=max_tokens, cancelled=stop)

        made_by = {"task": "read", "prompt": find or task, "seed": 0, "model": self.name}
        return ReadStream(
            with_pages(source, pages),
            write,
            provenance={**made_by, "settings": {"mode": mode, "what": task, "max_tokens": max_tokens}},
            dpi=DPI.get(chosen.name),
            on_page=on_page,
            cancelled=cancelled,
        )

    def page(
        self, picture: PilImage, mode: Mode, *, task: str, find: str, max_tokens: int, cancelled: Callable[[], bool]
    ) -> TokenWriter:
        """The text of one page, in pieces."""
        given = self.input(picture, mode, task=task, find=find)
        tokenizer = self.tokenizer
        constraint = NoRepeat(
            vocab_size=self._rows(),
            length=PHRASE,
            window=WINDOW,
            exempt=tokenizer.ids_of(TABLE_TAGS),
            closed=[tokenizer.id_of(IMAGE), tokenizer.bos],
        )
        # `Model.embed` is the one place where features are put into a prompt.
        joined = Model(tokenizer=tokenizer, core=self.core, eyes=self.eyes, about={})  # type: ignore[arg-type]
        tokens = generate(
            self.core,
            joined.embed(given),
            max_tokens=max_tokens,
            stop=frozenset({tokenizer.eos}),
            constraint=constraint,
            cancelled=cancelled,
        )
        (view,) = given.views
        return TokenWriter(
            tokens,
            tokenizer.decode,
            max_tokens=max_tokens,
            read=given.length,
            pictures=view.tokens,
            cancelled=cancelled,
        )

    def input(self, picture: PilImage, mode: Mode, *, task: str, find: str = "") -> ModelInput:
        """`bos`, the picture's places, and the task's words, ready for the core."""
        import torch

        view = part("vision").prepare(picture, mode)
        ids = [self.tokenizer.bos, *[self.tokenizer.id_of(IMAGE)] * view.tokens, *self.words(task, find)]
        span = (1, 1 + view.tokens)
        return ModelInput(token_ids_BT=torch.tensor([ids]), views=(view,), image_spans=(span,))

    def words(self, task: str, find: str = "") -> list[int]:
        """The ids of a task's prompt; what is looked for is plain text whatever it spells."""
        if task not in PROMPTS:
            raise unknown("reading task", task, PROMPTS)
        ids: list[int] = []
        text = "\n"
        for piece in PROMPTS[task]:
            if piece.startswith("<|"):
                ids += [*self.tokenizer.encode(text), self.tokenizer.id_of(piece)]
                text = ""
            else:
                text += piece.replace("{}", find.strip())
        return ids + self.tokenizer.encode(text)

    def _rows(self) -> int:
        """How many tokens the core can write: embeddings may have more rows than the tokenizer has tokens."""
        return self.core.config.vocab_size
