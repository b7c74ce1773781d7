"""Every kind of clip that we write plays in a browser: films are sought and their pixels read, animations drawn."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image

from generation import save_clip
from tests.generation.test_clips import HEIGHT, WIDTH, counted, number_in, turned

FRAMES, FPS = 24, 8
TYPES = {".mp4": "video/mp4", ".webm": "video/webm", ".webp": "image/webp", ".apng": "image/apng", ".gif": "image/gif"}
SEEK = """async ([address, times, length]) => {
  const film = document.createElement('video'); film.muted = true; film.src = address;
  await new Promise((done, fail) => { film.onloadeddata = done; film.onerror = () => fail(film.error.message); });
  const canvas = document.createElement('canvas');
  canvas.width = film.videoWidth; canvas.height = film.videoHeight;
  const pictures = [];
  for (const time of times) {
    const sought = new Promise(done => film.onseeked = done);
    const shown = new Promise(done => {  // "seeked" may come before the frame does: wait for the frame of that time
      const look = (_, frame) =>
        frame.mediaTime <= time && time < frame.mediaTime + length ? done() : film.requestVideoFrameCallback(look);
      film.requestVideoFrameCallback(look);
    });
    film.currentTime = time; await sought;
    await Promise.race([shown, new Promise(done => setTimeout(done, 1000))]);  // no callback when it is there already
    canvas.getContext('2d').drawImage(film, 0, 0); pictures.push(canvas.toDataURL('image/png'));
  }
  return [film.duration, pictures];
}"""
PLAY = """async address => {
  const film = document.createElement('video'); film.muted = true; film.src = address; document.body.append(film);
  const ended = new Promise((done, fail) => { film.onended = done; film.onerror = () => fail(film.error.message); });
  await film.play(); film.playbackRate = 4; await ended; return film.currentTime;
}"""
DRAW = """async address => {
  const picture = new Image(); picture.src = address; await picture.decode();
  const canvas = document.createElement('canvas'); canvas.width = picture.width; canvas.height = picture.height;
  canvas.getContext('2d').drawImage(picture, 0, 0); return canvas.toDataURL('image/png');
}"""


def address(tmp_path, suffix: str, quarters: int = 0) -> str:
    """A clip as a data address."""
    path = tmp_path / f"clip{suffix}"
    save_clip(path, counted(FRAMES), fps=FPS, provenance={"prompt": "x"})
    if quarters:
        turned(path, quarters)
    return f"data:{TYPES[suffix]};base64,{base64.b64encode(path.read_bytes()).decode()}"


def pixels(data: str) -> np.ndarray:
    """A picture that the page handed over."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2]))).convert("RGB"))


@pytest.mark.parametrize("suffix", [".mp4", ".webm"])
def test_a_film_plays_and_shows_the_right_frame_wherever_it_is_sought(tmp_path, page, suffix):
    source = address(tmp_path, suffix)
    numbers = [0, 17, 5, 23]
    seconds, pictures = page.evaluate(SEEK, [source, [(number + 0.5) / FPS for number in numbers], 1 / FPS])
    assert seconds == pytest.approx(FRAMES / FPS, abs=0.01)
    assert [number_in(pixels(picture)) for picture in pictures] == numbers
    assert page.evaluate(PLAY, source) == pytest.approx(FRAMES / FPS, abs=0.05)


@pytest.mark.parametrize("suffix", [".webp", ".apng", ".gif"])
def test_an_animation_is_drawn_from_its_first_frame(tmp_path, page, suffix):
    shown = pixels(page.evaluate(DRAW, address(tmp_path, suffix)))
    assert shown.shape == (HEIGHT, WIDTH, 3) and number_in(shown) < 2


@pytest.mark.parametrize("quarters", [1, 2, 3])
def test_the_browser_turns_a_film_as_our_reader_does(tmp_path, page, quarters):
    from generation import read_clip

    _, (picture,) = page.evaluate(SEEK, [address(tmp_path, ".mp4", quarters), [0.4], 1 / FPS])
    ours = read_clip(tmp_path / "clip.mp4").frames_NHW3[3]
    assert pixels(picture).shape == ours.shape
    assert np.abs(pixels(picture).astype(int) - ours).mean() < 4
