"""Files from the wild become tokens with an honest loss; streams are valid at every step; candidates are ranked."""

from __future__ import annotations

import numpy as np
import pytest

from generation.svg import SvgState, at_time, likeness, partial, ranked, rasterise, rebuild, shape, tokenise, vocabulary
from generation.svg.drawing import Drawing, RootStyle, write
from generation.svg.tree import load_tree

NS = 'xmlns="http://www.w3.org/2000/svg"'
VOCAB = vocabulary()
WILD = {
    "an icon of strokes": f'<svg {NS} width="24" height="24" viewBox="0 0 24 24" fill="none" stroke="currentColor" '
    'stroke-width="2" stroke-linecap="round" stroke-linejoin="round"><path d="M20 6 9 17l-5-5"/><circle cx="12" '
    'cy="12" r="10"/></svg>',
    "uses and defs": f'<svg {NS} viewBox="0 0 96 96"><defs><circle id="d" r="12" cx="20" cy="20" fill="teal"/></defs>'
    '<use href="#d"/><use href="#d" x="40" y="40"/></svg>',
    "a gradient": f'<svg {NS} viewBox="0 0 96 96"><linearGradient id="g"><stop offset="0" stop-color="#fd0"/>'
    '<stop offset="1" stop-color="#fe0"/></linearGradient><rect x="8" y="8" width="80" height="80" '
    'fill="url(#g)"/></svg>',
    "an editor's file": '<?xml version="1.0"?><!-- made by hand --><svg xmlns:i="http://example.org/i" '
    f'{NS} width="200px" height="100px" i:v="1"><i:view/><g i:label="l" style="fill:#336699;stroke:none">'
    '<path d="m 10,10 h 180 v 80 H 10 z m 20,20 v 40 h 140 v -40 z" style="fill-rule:evenodd"/></g></svg>',
}  # fmt: skip


@pytest.mark.parametrize("name", WILD)
def test_a_wild_file_becomes_tokens_and_comes_back_alike(name):
    found = tokenise(WILD[name])
    assert VOCAB.decode(found.ids) == found.text
    assert tokenise(found.text).ids == found.ids
    assert found.ssim > 0.85 and found.pixels < 0.05 and not found.shortened
    drawn = rasterise(rebuild(found.text), 48)
    assert (drawn != drawn[0, 0]).any() or name == "a gradient"


def test_the_loss_is_told():
    text = f'{NS} viewBox="0 0 96 96"><text x="9" y="60" font-size="60">Hello</text>'
    found = tokenise(f'<svg {text}<circle cx="80" cy="12" r="8" fill="#12fe08"/><image href="a.png"/></svg>')
    assert found.left_out == {"text": 1, "image": 1}
    assert list(found.colours) == ["#12fe08"] and found.colours["#12fe08"] > 1
    assert found.ssim < 0.95 and found.pixels > 0.01
    assert "left out 1 <text>, 1 <image>" in found.report() and "#12fe08" in found.report()
    with pytest.raises(ValueError, match="nothing drawable"):
        tokenise(f'<svg {NS} viewBox="0 0 9 9"><text>only words</text></svg>')


def test_a_long_file_is_simplified_to_fit_and_says_so():
    rng = np.random.default_rng(0)
    walk = np.clip(np.cumsum(rng.normal(0, 1, (500, 2)), 0) + 48, 0, 96)
    path = "M " + " L ".join(f"{x:.2f} {y:.2f}" for x, y in walk)
    found = tokenise(f'<svg {NS} viewBox="0 0 96 96"><path d="{path}" fill="none" stroke="red"/></svg>', 400)
    assert len(found.ids) <= 400 and found.shortened and "simplified" in found.report()


def test_likeness_is_one_for_the_same_and_falls_with_noise():
    rng = np.random.default_rng(1)
    picture = rng.random((48, 40, 3))
    noisy = np.clip(picture + rng.normal(0, 0.2, picture.shape), 0, 1)
    assert likeness(picture, picture) == pytest.approx(1)
    assert likeness(picture, 1 - picture) < 0 < likeness(picture, noisy) < 0.9


def stream(seed: int, budget: int) -> list[int]:
    """One random walk through everything that the mask allows; ends by itself within its budget."""
    rng, state, ids = np.random.default_rng(seed), SvgState(max_tokens=budget), []
    while not state.done:
        ids.append(int(rng.choice(np.flatnonzero(state.allowed()))))
        state.push(ids[-1])
    return ids


def test_fifty_streams_close_in_time_and_are_valid_at_every_step():
    """Also where the budget forces the end."""
    for seed in range(50):
        budget = 7 + 3 * seed
        ids = stream(seed, budget)
        assert len(ids) <= budget
        last = ""
        for step in range(len(ids) + 1):
            text = partial(ids[:step])
            if text != last:
                root = load_tree(text)
                assert not root.children or at_time(text, 0) == rebuild(text)
            last = text
        assert VOCAB.decode(ids) == last


def test_candidates_that_agree_come_first_and_empty_ones_last():
    def one(kind: str, colour: str, size: int) -> str:
        return write(Drawing(style=RootStyle(fill="none"), items=(shape(kind, colour, 48, 48, size),)))

    star, near, circle = one("star", "red", 60), one("star", "orange", 58), one("circle", "blue", 60)
    blank = '<svg viewBox="0 0 96 96" fill="none"><rect x="1" y="1" width="2" height="2" fill="white"/></svg>'
    order = ranked([blank, circle, star, near, star])
    assert order[-1] == 0 and order[-2] == 1 and set(order[:3]) == {2, 3, 4}
    wanted = rasterise(circle, 64)
    assert ranked([blank, circle, star], wanted)[0] == 1
    with pytest.raises(ValueError, match="no candidates"):
        ranked([])
