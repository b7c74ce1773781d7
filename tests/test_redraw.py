"""A picture redrawn as SVG: what is asked of the eyes and the hands, and that the drawing is fitted to the picture."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from dsv4 import EchoStudio, InputError, image
from dsv4.redraw import as_request, nouns_of, redrawn, square
from dsv4.results import Svg, Usage
from generation.svg import rasterise

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
PARTS = {
    "a red circle": '<circle cx="48" cy="48" r="40" fill="red"/>',
    "a blue square": '<path d="M8 8H88V88H8z" fill="blue"/>',
}


class Hands:
    """Eyes that say one sentence, and hands that know two shapes alone but not together."""

    def __init__(self, said: str) -> None:
        self.said, self.asked = said, []

    def chat(self, question, *shown, **_):
        assert question == "What is in this picture?" and len(shown) == 1
        return SimpleNamespace(reply=SimpleNamespace(text=self.said))

    def svg(self, prompt, *, seed, **_):
        self.asked.append((prompt, seed))
        text = f"{HEAD}{PARTS.get(prompt, PARTS['a red circle'])}</svg>"
        return Svg(text=text, raw=text, provenance={"task": "svg", "prompt": prompt}, usage=Usage())


def shown() -> np.ndarray:
    return rasterise(
        f'{HEAD}<rect width="96" height="96" fill="#ffe9a8"/><circle cx="26" cy="50" r="15" fill="red"/>'
        '<path d="M60 40H84V64H60z" fill="blue"/></svg>',
        128,
    )


def as_image(pixels_HW3: np.ndarray):
    content = io.BytesIO()
    Image.fromarray(pixels_HW3).save(content, "PNG")
    return image(content.getvalue())


def test_a_description_becomes_a_request():
    said = "A red circle to the left of a blue square on a sky blue background, flat style."
    assert as_request(said) == "a red circle to the left of a blue square on a sky blue background"
    assert nouns_of(as_request(said)) == ["a red circle", "a blue square"]
    assert nouns_of("an ant, a cat and grapes") == ["an ant", "a cat", "grapes"]
    with pytest.raises(InputError, match="said nothing"):
        as_request(" . ")


def test_things_are_drawn_one_by_one_where_the_whole_is_not_like_the_picture():
    hands = Hands("A red circle to the left of a blue square on a cream background.")
    made = redrawn(hands, as_image(shown()), candidates=2, temperature=0.5, seed=3)
    whole = "a red circle to the left of a blue square on a cream background"
    assert hands.asked == [(whole, 3), (whole, 4), ("a red circle", 3), ("a blue square", 3)]
    told = made.provenance["settings"]
    assert told["likeness"] > 0.95 and told["seen"].startswith("A red circle")
    assert "#ffe9a8" in made.text and made.text.count("<circle") == 1
    assert f"<title>{whole}</title>" in made.text


def test_a_prompt_stands_for_what_the_eyes_would_say():
    hands = Hands("never asked")
    made = redrawn(hands, as_image(shown()), "A red circle.")
    assert hands.asked == [("a red circle", 0)] and made.provenance["prompt"] == "a red circle"


def test_a_picture_is_padded_to_a_square():
    assert square(as_image(np.full((10, 40, 3), 90, np.uint8))).shape == (64, 64, 3)
    assert (square(as_image(np.full((10, 40, 3), 90, np.uint8))) == 90).all()
    with pytest.raises(InputError):
        square(image(b"no picture"))


def test_the_command_line_redraws_and_describes(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("DSV4_MODEL", "echo")
    Image.new("RGB", (20, 10), "red").save(tmp_path / "a.png")
    (tmp_path / "a.svg").write_text(f"{HEAD}{PARTS['a red circle']}</svg>")
    assert main(["svg", "--from", str(tmp_path / "a.png")]) == 0
    assert "a picture of 20 x 10" in capsys.readouterr().out
    assert main(["describe", str(tmp_path / "a.svg")]) == 0
    assert "What is in this picture?" in capsys.readouterr().out
    assert main(["svg", "--from", str(tmp_path / "a.png"), "--edit", str(tmp_path / "a.svg")]) == 2
    assert main(["svg"]) == 2
    assert "the prompt is empty" in capsys.readouterr().err
    assert EchoStudio().svg("hi", picture=image(tmp_path / "a.png")).provenance["prompt"] == "hi"
