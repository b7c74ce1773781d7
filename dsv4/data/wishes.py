"""What a conversation may ask the hands for, and how words change it: "make it red", "put it beside a tree".

A wish is an icon (name, colour, form) or a scene (a caption) for one of three verbs; `call` is what the verb is given.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from dsv4.chat_format import Call
from dsv4.data.language import MOTIONS, Caption, clashes, held_motion, held_pair, is_shape

VERBS = dict(
    zip(
        MOTIONS,
        ("move left", "move right", "move up", "move down", "spin", "bounce", "grow", "shrink", "shake", "swing"),
        strict=True,
    )
)
FRAMES = ("in a circle", "in a square")
COUNTS = ("two", "three", "four")


@dataclass(frozen=True, kw_only=True)
class IconWish:
    """An icon by name, perhaps in a colour, perhaps framed or repeated (`form`), perhaps beside another one."""

    name: str
    colour: str = ""
    form: str = ""
    beside: str = ""

    @property
    def call(self) -> Call:
        """The request as `Documents` words it."""
        said = f"{self.colour} {self.name}".strip()
        if self.beside:
            return Call(kind="svg", prompt=f"{said} icon and {self.beside} icon")
        many = self.form in COUNTS
        return Call(kind="svg", prompt=f"{self.form} {said} icons" if many else f"{said} icon {self.form}".strip())


@dataclass(frozen=True, kw_only=True)
class SceneWish:
    """A scene as a drawing (`svg`), a picture (`image`) or a clip (`video`)."""

    kind: str
    caption: Caption

    @property
    def call(self) -> Call:
        """The caption as its verb takes it; a drawing has only one look."""
        caption = replace(self.caption, flat=False) if self.kind == "svg" else self.caption
        return Call(kind=self.kind, prompt=caption.text())


Wish = IconWish | SceneWish


def on_ground(wish: SceneWish, ground: str) -> SceneWish | None:
    """The scene before another ground; None where a shape would hardly be seen on it."""
    colours = [noun.split()[0] for noun in wish.caption.nouns if is_shape(noun)]
    if ground == wish.caption.ground or any(clashes(colour, ground) for colour in colours):
        return None
    return replace(wish, caption=replace(wish.caption, ground=ground))


def with_other(wish: SceneWish, other: str, relation: str | None) -> SceneWish | None:
    """A still scene of one noun with a second one; None where the two never meet in training."""
    caption = wish.caption
    first = caption.nouns[0]
    alone = len(caption.nouns) == 1 and caption.count == 1 and not caption.motions
    if not alone or other == first or held_pair(first, other) or _unseen(other, caption.ground):
        return None
    return replace(wish, caption=replace(caption, nouns=(first, other), relation=relation))


def swapped(wish: SceneWish) -> SceneWish | None:
    """Two nouns change places."""
    caption = wish.caption
    if len(caption.nouns) != 2 or caption.motions:
        return None
    return replace(wish, caption=replace(caption, nouns=caption.nouns[::-1]))


def moving(wish: SceneWish, motion: str) -> SceneWish | None:
    """The one noun of the scene in a clip; None where it never moves so in training."""
    caption = wish.caption
    if len(caption.nouns) != 1 or caption.count > 1 or held_motion(caption.nouns[0], motion):
        return None
    if caption.motions == (motion,):
        return None
    return SceneWish(kind="video", caption=replace(caption, motions=(motion,)))


def recoloured(wish: SceneWish, colour: str) -> SceneWish | None:
    """A lone coloured shape (or several alike) in another colour."""
    caption = wish.caption
    if len(caption.nouns) != 1 or not is_shape(caption.nouns[0]) or clashes(colour, caption.ground):
        return None
    old, kind = caption.nouns[0].split()
    noun = f"{colour} {kind}"
    if old == colour or any(held_motion(noun, motion) for motion in caption.motions):
        return None
    return replace(wish, caption=replace(caption, nouns=(noun,)))


def instead(wish: SceneWish, noun: str) -> SceneWish | None:
    """Another noun in the place of the only one."""
    caption = wish.caption
    if len(caption.nouns) != 1 or caption.count > 1 or noun == caption.nouns[0] or _unseen(noun, caption.ground):
        return None
    if any(held_motion(noun, motion) for motion in caption.motions):
        return None
    return replace(wish, caption=replace(caption, nouns=(noun,)))


def still(wish: SceneWish, kind: str) -> SceneWish | None:
    """The scene as a drawing or a picture; None where it is one already."""
    if kind == wish.kind:
        return None
    flat = wish.caption.flat and kind != "svg"
    return SceneWish(kind=kind, caption=replace(wish.caption, motions=(), flat=flat))


def _unseen(noun: str, ground: str) -> bool:
    return is_shape(noun) and clashes(noun.split()[0], ground)
