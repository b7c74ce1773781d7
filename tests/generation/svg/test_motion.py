"""Moving drawings: the ten motions stay inside, are what their tables say, and lose nothing but what is not allowed."""

from __future__ import annotations

import re

import numpy as np
import pytest

from dsv4.data.language import MOTIONS
from dsv4.data.motions import motion_row, motion_table
from dsv4.instructions import poses_of, split_motion
from generation.svg import animated, at_time, duration, frames, moving, rebuild

DOT = '<svg viewBox="0 0 96 96"><title>dot</title><rect x="28" y="38" width="40" height="20" fill="red"/></svg>'
HEAD = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 96 96">'


def middles(frames_FHW3: np.ndarray) -> np.ndarray:
    """Where the red is and how much of it, [F, 3]: right, down (0..1), area."""
    rows = []
    for frame in frames_FHW3.astype(int):
        down, right = np.nonzero((frame[..., 0] > 150) & (frame[..., 1] < 120))
        rows.append((right.mean() / frame.shape[1], down.mean() / frame.shape[0], len(right)))
    return np.array(rows)


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_motion_moves_as_its_table_says_and_stays_inside(motion):
    svg = moving(DOT, poses_of(motion), 2)
    assert rebuild(svg) == svg and animated(svg) and duration(svg) == 2 and not animated(DOT)
    seen_FHW3 = frames(svg, 96, fps=12)
    assert seen_FHW3.shape == (24, 96, 96, 3)
    edge = np.concatenate([seen_FHW3[:, 0], seen_FHW3[:, -1], seen_FHW3[:, :, 0], seen_FHW3[:, :, -1]], 1)
    assert edge.min() == 255
    seen_F3 = middles(seen_FHW3)
    table_F4 = motion_table(25)[motion_row(motion, company=False)][:24]
    assert np.abs(seen_F3[:, :2] - 0.5 - table_F4[:, :2]).max() < 0.025
    sizes = np.sqrt(seen_F3[:, 2])
    expected = table_F4[:, 2] / table_F4[:, 2].max()
    assert np.abs(sizes / sizes.max() - expected).max() < 0.06
    if motion in ("spinning", "swinging"):
        flat = [np.nonzero((frame[..., 1] < 120).any(1))[0] for frame in seen_FHW3.astype(int)]
        heights = np.array([rows[-1] - rows[0] for rows in flat])
        assert heights.max() > 1.4 * heights.min()


def test_the_words_at_the_end_are_the_motion_and_only_there():
    assert split_motion("a star bouncing") == ("a star", "bouncing")
    assert split_motion("Two red hearts  Moving Left.") == ("Two red hearts", "moving left")
    assert split_motion("a cat that is spinning!") == ("a cat", "spinning")
    for prompt in ("a spinning top", "bouncing", "a bouncing", "a star", "growing plant icon", "a handshaking"):
        assert split_motion(prompt) == (prompt, None)


def test_a_whole_turn_has_no_seam():
    svg = moving(DOT, poses_of("spinning"), 2)
    assert 'values="0;360"' in svg
    assert np.array_equal(frames(svg, 48, fps=4, seconds=4)[0], frames(svg, 48, fps=4, seconds=4)[4 * 2])


def test_studios_put_the_motion_into_what_was_drawn_and_save_it_as_a_clip(tmp_path):
    from dsv4 import EchoStudio, InputError
    from generation import read_clip, read_provenance

    drawing = EchoStudio().svg("a disc moving right")
    assert drawing.text.count("<animateTransform") == 1 and "<title>a disc moving right</title>" in drawing.text
    drawing.save(tmp_path / "disc.gif")
    assert read_clip(tmp_path / "disc.gif").total == 40
    assert read_provenance(tmp_path / "disc.gif")["prompt"] == "a disc moving right"
    drawing.save(tmp_path / "disc.svg")
    with pytest.raises(InputError, match="does not move"):
        EchoStudio().svg("a disc").save(tmp_path / "still.mp4")


ALLOWED = [
    '<animate attributeName="opacity" values="1;0;1" dur="2s" repeatCount="indefinite"/>',
    '<animate attributeName="cx" from="10" to="80" dur="500ms" begin="1s" fill="freeze"/>',
    '<animateTransform attributeName="transform" type="rotate" from="0 48 48" to="360 48 48" dur="3s"/>',
]
DROPPED = [
    '<animate attributeName="href" values="#a;javascript:alert(1)" dur="2s"/>',
    '<animate attributeName="fill" values="red;url(http://evil.example)" dur="2s"/>',
    '<animate attributeName="cx" from="10" to="80" dur="indefinite"/>',
    '<animate attributeName="cx" dur="2s"/>',
    '<animate attributeName="cx" values="1;2;3" keyTimes="0;1" dur="2s"/>',
    '<animateTransform attributeName="onload" type="rotate" from="0" to="9" dur="3s"/>',
    '<animateTransform attributeName="transform" type="matrix" from="0" to="9" dur="3s"/>',
    '<set attributeName="cx" to="9"/>',
    '<animateMotion path="M 0 0L 9 9" dur="2s"/>',
]


@pytest.mark.parametrize("text", ALLOWED)
def test_numbers_over_time_are_allowed(text):
    safe = rebuild(f'{HEAD}<circle cx="48" cy="48" r="9">{text}</circle></svg>')
    assert text in safe


@pytest.mark.parametrize("text", DROPPED)
def test_every_other_animation_is_left_out(text):
    safe = rebuild(f'{HEAD}<circle cx="48" cy="48" r="9">{text}</circle></svg>')
    assert not re.search("anim|<set|evil|alert|onload", safe) and 'r="9"' in safe


def test_events_and_unknown_words_are_left_out_of_an_allowed_animation():
    text = '<animate attributeName="cx" values="1;2" dur="2s" begin="a.click" onend="x()" href="#b" restart="always"/>'
    safe = rebuild(f'{HEAD}<circle cx="48" cy="48" r="9">{text}</circle></svg>')
    assert '<animate attributeName="cx" values="1;2" dur="2s"/>' in safe
    many = '<animate attributeName="cx" values="1;2" dur="2s"/>' * 257
    with pytest.raises(ValueError, match="257 animations; the limit is 256"):
        rebuild(f'{HEAD}<circle cx="48" cy="48" r="9">{many}</circle></svg>')


@pytest.mark.parametrize(
    ("text", "seconds", "shows"),
    [
        ('<animate attributeName="cx" values="10;20;40" dur="2s"/>', 0.5, 'cx="15"'),
        ('<animate attributeName="cx" values="10;20;40" dur="2s"/>', 1.5, 'cx="30"'),
        ('<animate attributeName="cx" values="10;20;40" keyTimes="0;0.1;1" dur="2s"/>', 1.1, 'cx="30"'),
        ('<animate attributeName="cx" values="10;20;40" dur="2s"/>', 2.5, 'cx="48"'),
        ('<animate attributeName="cx" values="10;20;40" dur="2s" fill="freeze"/>', 2.5, 'cx="40"'),
        ('<animate attributeName="cx" values="10;20;40" dur="2s" repeatCount="indefinite"/>', 9, 'cx="20"'),
        ('<animate attributeName="cx" values="10;20;40" dur="3s" calcMode="discrete"/>', 1.9, 'cx="20"'),
        ('<animate attributeName="cx" from="10" to="20" dur="1s" begin="1s"/>', 0.5, 'cx="48"'),
        (
            '<animateTransform attributeName="transform" type="translate" values="0 0;8 4" dur="2s"/>'
            '<animateTransform attributeName="transform" type="rotate" values="0;90" dur="2s" additive="sum"/>',
            1,
            'transform="translate(4 2) rotate(45)"',
        ),
    ],
)
def test_a_time_shows_what_smil_says(text, seconds, shows):
    assert shows in at_time(f'{HEAD}<circle cx="48" cy="48" r="9">{text}</circle></svg>', seconds)


def test_what_cannot_move_is_said():
    with pytest.raises(ValueError, match="two poses or more"):
        moving(DOT, [(0, 0, 1, 0)])
    with pytest.raises(ValueError, match="needs a viewBox"):
        moving('<svg width="9" height="9"><rect width="3" height="3"/></svg>', poses_of("growing"))
    with pytest.raises(ValueError, match="does not move"):
        frames(DOT, 32)
    with pytest.raises(ValueError, match="at 0 to 120 a second"):
        frames(moving(DOT, poses_of("growing")), 32, fps=500)
