"""Pictures are opened as a person sees them, and what cannot be opened is said in one line."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageOps

from tests.vision.cmyk_profile import D50, INKS, cmyk_profile
from vision import open_picture, pictures, prepare
from vision.views import _padded


def as_bytes(picture: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def test_exif_turns_the_picture_upright():
    wide = Image.new("RGB", (40, 20), "red")
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(as_bytes(wide, "JPEG", exif=exif)).size == (20, 40)


@pytest.mark.parametrize("kind", ["RGBA", "LA", "P"])
def test_what_is_transparent_lies_on_white(kind):
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    picture = clear.quantize(4) if kind == "P" else clear.convert(kind)
    assert open_picture(as_bytes(picture)).getpixel((3, 3)) == (255, 255, 255)


def test_sixteen_bits_are_scaled_and_not_cut_off():
    deep_HW = np.array([[0, 40_000], [200, 65_535]], dtype=np.uint16)
    seen = open_picture(as_bytes(Image.fromarray(deep_HW)))
    assert [seen.getpixel((x, y))[0] for y in (0, 1) for x in (0, 1)] == [0, 156, 1, 255]


@pytest.mark.parametrize(
    ("values", "seen"), [([0.0, 1.0], [0, 255]), ([0.0, 128.0], [0, 128]), ([-2.0, 2.0], [0, 255])]
)
def test_fractions_are_scaled_by_the_range_they_are_written_in(values, seen):
    picture = Image.fromarray(np.array([values], dtype=np.float32))
    opened = open_picture(as_bytes(picture, "TIFF"))
    assert [opened.getpixel((x, 0))[0] for x in (0, 1)] == seen


def test_cmyk_becomes_rgb_with_and_without_a_profile():
    plain = open_picture(as_bytes(Image.new("CMYK", (4, 4), (0, 255, 255, 0)), "JPEG"))
    assert plain.getpixel((1, 1))[0] > 200 and max(plain.getpixel((1, 1))[1:]) < 60
    broken = Image.new("CMYK", (4, 4), (0, 255, 255, 0))
    broken.info["icc_profile"] = b"no profile"
    assert open_picture(broken).getpixel((1, 1)) == (255, 0, 0)
    wrong = Image.new("CMYK", (4, 4), (0, 255, 255, 0))  # a profile of another colour space is no use either
    wrong.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    assert open_picture(wrong).getpixel((1, 1)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_goes_through_a_profile_that_says_otherwise_than_arithmetic(kind):
    quality = {"quality": 100} if kind == "JPEG" else {}
    for place, ink in enumerate("CMYK"):
        full = Image.new("CMYK", (16, 16), tuple(255 * (number == place) for number in range(4)))
        seen = open_picture(as_bytes(full, kind, icc_profile=cmyk_profile(), **quality)).getpixel((8, 8))
        assert np.abs(np.subtract(seen, lab_to_srgb(INKS[ink]))).max() <= 6, (ink, seen)
    paper = open_picture(as_bytes(Image.new("CMYK", (16, 16)), kind, icc_profile=cmyk_profile(), **quality))
    assert min(paper.getpixel((8, 8))) >= 250


def lab_to_srgb(lab: tuple[int, int, int]) -> np.ndarray:
    """CIE Lab under D50 as sRGB, 0 to 255, cut off at its bounds (CIE 15; IEC 61966-2-1 by Bradford's matrix)."""
    lightness, a, b = lab
    fy = (lightness + 16) / 116
    f = np.array([fy + a / 500, fy, fy - b / 200])
    xyz = np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * D50
    matrix = [
        [3.1338561, -1.6168667, -0.4906146],
        [-0.9787684, 1.9161415, 0.0334540],
        [0.0719453, -0.2289914, 1.4052427],
    ]
    linear = np.clip(np.array(matrix) @ xyz, 0, 1)
    return 255 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def test_an_animation_gives_its_first_frame():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green")]
    opened = open_picture(as_bytes(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert opened.getpixel((0, 0)) == (255, 0, 0)


def test_pixels_are_counted_in_the_header_before_anything_is_decoded():
    """A file that claims 10,000 x 10,000 pixels and holds none of them is refused for its claim."""
    header = struct.pack(">IIBBBBB", 10_000, 10_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    data = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk))
    data += struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(ValueError, match="at most 64,000,000"):
        open_picture(data)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("words.png", b"these are words\n", "is not a picture"),
        ("empty.png", b"", "is not a picture"),
        ("half.png", as_bytes(Image.effect_noise((64, 64), 50))[:900], "is broken"),
        ("drawing.png", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a picture"),
    ],
)
def test_a_bad_file_is_named_in_one_line(tmp_path, name, content, says):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=says) as error:
        open_picture(path)
    assert name in str(error.value) and "\n" not in str(error.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        open_picture(tmp_path / "none.png")
    with pytest.raises(ValueError, match="is not a file"):
        open_picture(tmp_path)


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "HSV", "LAB"]
)
def test_every_mode_of_pillow_is_seen_as_it_looks(mode):
    """White stays white and a dark place stays dark, in every way that a picture can be held."""
    picture = Image.new("L", (4, 2), 255)
    picture.putpixel((1, 1), 0)
    if mode == "LAB":
        lab = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), "RGB", "LAB")
        held = ImageCms.applyTransform(picture.convert("RGB"), lab)
    elif mode in ("RGBa", "La", "PA"):
        held = picture.convert({"RGBa": "RGBA", "La": "LA", "PA": "P"}[mode]).convert(mode)
    else:
        held = picture.convert("RGB").convert(mode) if mode == "HSV" else picture.convert(mode)
    seen = np.asarray(open_picture(held)).astype(int)
    assert seen.shape == (2, 4, 3) and seen[0].min() >= 250 and seen[1, 1].max() <= 5


def test_black_ink_on_a_clear_page_can_be_read():
    page = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    page.paste((0, 0, 0, 255), (5, 5, 15, 15))
    seen = np.asarray(open_picture(as_bytes(page)))
    assert seen[10, 10].tolist() == [0, 0, 0] and seen[0, 0].tolist() == [255, 255, 255]


@pytest.mark.parametrize("size", [(5000, 1), (2, 5000), (2049, 1), (1, 1), (20_000, 3)])
def test_extreme_shapes_are_clamped_to_a_pixel(size):
    picture = Image.new("RGB", size, (10, 20, 30))
    views = prepare(open_picture(as_bytes(picture)), "base")
    shown = ((views.whole_13SS[0] + 1) * 127.5).round()
    inked = (shown - torch.tensor([10.0, 20.0, 30.0])[:, None, None]).abs().amax(0) == 0
    assert int(inked.sum()) == 1024 * max(1, round(1024 * min(size) / max(size)))


def test_a_jpeg_beyond_the_limit_is_read_at_half_its_size(monkeypatch):
    monkeypatch.setattr(pictures, "MAX_PIXELS", 5_000)
    monkeypatch.setattr(pictures, "MAX_JPEG_PIXELS", 20_000)
    assert open_picture(as_bytes(Image.new("RGB", (120, 90), "red"), "JPEG")).size == (60, 45)
    with pytest.raises(ValueError, match="at most 5,000"):
        open_picture(as_bytes(Image.new("RGB", (200, 150)), "JPEG"))
    with pytest.raises(ValueError, match="at most 5,000"):
        open_picture(as_bytes(Image.new("RGB", (120, 90)), "PNG"))


def test_padding_is_pillows_wherever_pillow_can():
    noise = np.random.default_rng(0).integers(0, 256, (90, 61, 3), dtype=np.uint8)
    for width, height in [(61, 90), (61, 33), (7, 90), (50, 50), (61, 60)]:
        picture = Image.fromarray(noise[:height, :width])
        wanted = ImageOps.pad(picture, (128, 128), method=Image.Resampling.BICUBIC, color=(127, 127, 127))
        assert np.array_equal(np.asarray(_padded(picture, 128)), np.asarray(wanted)), (width, height)
    assert _padded(Image.new("RGB", (5000, 1)), 128).size == (128, 128)


def test_values_run_from_minus_one_to_one():
    views = prepare(Image.new("RGB", (30, 20), (255, 0, 255)), "tiny")
    assert views.whole_13SS.amin((0, 2, 3)).tolist() == [1.0, -1.0, 1.0]
    assert views.whole_13SS.shape == (1, 3, 512, 512)


def test_only_rgb_is_prepared():
    with pytest.raises(ValueError, match="must be RGB, got L"):
        prepare(Image.new("L", (8, 8)), "tiny")
