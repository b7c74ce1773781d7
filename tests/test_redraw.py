"""A picture redrawn as SVG: what is asked of the eyes and the hands, and that the drawing is fitted to the picture."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from app.cli import main
from dsv4 import EchoStudio, InputError, image
from dsv4.redraw import as_request, nouns_of, padded, redrawn, redrawn_as, square
from dsv4.results import Svg, Usage
from generation.svg import rasterise

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'
PARTS = {
    "a red circle": '<circle cx="48" cy="48" r="40" fill="red"/>',
    "a blue square": '<path d="M8 8H88V88H8z" fill="blue"/>',
}


class Hands:
    """Eyes that say one sentence, and hands that know two shapes alone but not together."""

    name, fingerprint = "hands", "1"

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


def icon() -> np.ndarray:
    """A ring in black on white, for which the hands have no word."""
    return rasterise(f'{HEAD}<path d="M20 20H76V76H20zM34 34V62H62V34z" fill-rule="evenodd"/></svg>', 256)


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
    made = redrawn(hands, as_image(shown()), "A red circle.", trace="never")
    assert hands.asked == [("a red circle", 0)] and made.provenance["prompt"] == "a red circle"


def test_a_flat_picture_that_the_words_do_not_meet_is_traced():
    hands = Hands("A red circle.")
    made = redrawn(hands, as_image(icon()), seed=4)
    told = made.provenance["settings"]
    assert told["made_by"] == "traced" and told["seen"] == "A red circle." and told["likeness"] >= 0.95
    assert hands.asked == [("a red circle", 4)] and "<circle" not in made.text and "evenodd" in made.text
    assert made.provenance["prompt"] == "a traced picture" and "<title>a traced picture</title>" in made.text
    assert redrawn_as(told) == f"traced, not drawn from words; seen: A red circle. likeness {told['likeness']}"
    named = redrawn(Hands("never asked"), as_image(icon()), "My logo")
    assert "<title>My logo</title>" in named.text and named.provenance["settings"]["made_by"] == "traced"


def test_tracing_is_left_out_where_it_is_not_wanted_or_not_needed():
    never = redrawn(Hands("A red circle."), as_image(icon()), trace="never").provenance["settings"]
    assert never["made_by"] == "words" and never["likeness"] < 0.95
    near = redrawn(Hands("A red circle."), as_image(rasterise(f"{HEAD}{PARTS['a red circle']}</svg>", 256)))
    assert near.provenance["settings"]["made_by"] == "words" and "<circle" in near.text
    noise_HW3 = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert redrawn(Hands("A red circle."), as_image(noise_HW3)).provenance["settings"]["made_by"] == "words"
    stopped = redrawn(Hands("A red circle."), as_image(icon()), cancelled=lambda: True)
    assert stopped.provenance["settings"]["made_by"] == "words"
    with pytest.raises(InputError, match="did you mean 'always'"):
        redrawn(Hands("A red circle."), as_image(icon()), trace="allways")


def test_tracing_always_asks_neither_eyes_nor_hands():
    hands = Hands("never asked")
    made = redrawn(hands, as_image(icon()), trace="always", seed=5)
    assert hands.asked == [] and made.provenance["seed"] == 5 and made.provenance["model"] == "hands (1)"
    assert made.provenance["settings"] == {"made_by": "traced", "seen": "", "likeness": pytest.approx(0.99, abs=0.01)}
    silent = redrawn(Hands(" . "), as_image(icon()))  # eyes that say nothing leave the outlines
    assert silent.text == made.text
    with pytest.raises(InputError, match="said nothing"):
        redrawn(Hands(" . "), as_image(icon()), trace="never")


def test_a_wide_picture_is_traced_within_its_square():
    wide_HW3 = np.full((40, 160, 3), 255, np.uint8)
    wide_HW3[10:30, 20:140] = (0, 90, 200)
    made = redrawn(Hands("A red circle."), as_image(wide_HW3), trace="always")
    found = rasterise(made.text, 160)
    assert found.shape == (160, 160, 3) and (found[80, 80] == (0, 90, 200)).all() and (found[20, 80] == 255).all()
    assert made.provenance["settings"]["likeness"] > 0.95


def test_a_picture_is_padded_to_a_square():
    assert square(as_image(np.full((10, 40, 3), 90, np.uint8))).shape == (64, 64, 3)
    assert (square(as_image(np.full((10, 40, 3), 90, np.uint8))) == 90).all()
    long = padded(as_image(np.full((120, 9000, 3), 90, np.uint8)))
    assert long.size == (2048, 2048) and long.getpixel((9, 9)) == (90, 90, 90)
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
    assert main(["svg", "--from", str(tmp_path / "a.png"), "--trace", "always"]) == 0
    told = capsys.readouterr()
    assert '<rect width="96" height="96" fill="#ff0000"/>' in told.out and "traced, not drawn from words" in told.err
    assert main(["svg", "hi", "--trace", "always"]) == 2 and "--from FILE" in capsys.readouterr().err
    assert main(["svg", "hi", "--trace", "some"]) == 2 and "choose one of auto" in capsys.readouterr().err
    assert EchoStudio().svg("hi", picture=image(tmp_path / "a.png")).provenance["prompt"] == "hi"
