"""Nothing dangerous survives a rebuild, and rendering outside text is bounded."""

import json
import time

import pytest

from generation.svg import rasterise, rebuild

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 96 96"'
DOT = '<circle cx="48" cy="48" r="20" fill="red"/>'
HTML = "http://www.w3.org/1999/xhtml"
ATTACKS = {
    "script": f"{HEAD}><script>alert(1)</script>{DOT}</svg>",
    "handler": f'{HEAD} onload="alert(1)">{DOT}<rect onclick="alert(1)" width="4" height="4"/></svg>',
    "foreign object": f'{HEAD}><foreignObject><body xmlns="{HTML}"><img src="http://evil.example/x"/></body>'
    f"</foreignObject>{DOT}</svg>",
    "html in desc": f'{HEAD}><desc><img xmlns="{HTML}" src="http://evil.example" onerror="alert(1)"/></desc>'
    f"{DOT}</svg>",
    "image": f'{HEAD}><image href="file:///etc/passwd" width="96" height="96"/>{DOT}</svg>',
    "outside use": f'{HEAD}><use xlink:href="http://evil.example/a.svg#x"/>{DOT}</svg>',
    "style sheet": f"{HEAD}><style>@import url(http://evil.example);</style>{DOT}</svg>",
    "outside paint": f'{HEAD}><rect width="96" height="96" style="fill:url(http://evil.example/#a)"/>{DOT}</svg>',
    "outside clip": f'{HEAD}><g clip-path="url(//evil.example#a)">{DOT}</g></svg>',
    "link": f'{HEAD}><a href="javascript:alert(1)">{DOT}</a>{DOT}</svg>',
    "animation": f'{HEAD}><set attributeName="href" to="javascript:alert(1)"/><animate onbegin="alert(1)"/>{DOT}</svg>',
    "filter": f'{HEAD}><filter id="f"><feImage href="http://evil.example"/></filter>'
    f'<g filter="url(#f)">{DOT}</g></svg>',
    "instruction": f'<?xml-stylesheet href="http://evil.example"?>{HEAD}>{DOT}<!-- alert(1) --></svg>',
}
REFUSED = {
    "entities": (f'<!DOCTYPE s [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]>{HEAD}><text>&b;</text></svg>', "document type"),
    "doctype in utf-16": (
        f'<?xml version="1.0" encoding="utf-16"?><!DOCTYPE s [<!ENTITY a "b">]>{HEAD}>{DOT}</svg>'.encode("utf-16"),
        "document type",
    ),
    "depth": (HEAD + ">" + "<g>" * 20_000 + DOT + "</g>" * 20_000 + "</svg>", "deeper than 32"),
    "nodes": (HEAD + ">" + DOT * 6_000 + "</svg>", "more than 5000 elements"),
    "bytes": (HEAD + ">" + " " * 600_000 + DOT + "</svg>", "limit is 512,000"),
    "uses": (HEAD + '><rect id="a" width="4" height="4"/>' + '<use href="#a"/>' * 65 + "</svg>", "limit is 64"),
    "use of use": (
        f'{HEAD}><g id="a">{DOT}</g><g id="b"><use href="#a"/></g><use href="#b"/></svg>',
        "itself uses is not allowed",
    ),
    "use of itself": (f'{HEAD}><g id="a"><use href="#a"/></g></svg>', "itself uses is not allowed"),
    "other xml": ("<html/>", "not <svg>"),
    "broken": ("<svg><", "not well-formed"),
    "prose": ("a red heart", "not well-formed"),
    "nothing drawn": (f"{HEAD}><script/></svg>", "nothing drawable"),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_leave_only_the_dot(name):
    safe = rebuild(ATTACKS[name])
    assert '<circle cx="48" cy="48" r="20" fill="red"/>' in safe
    for word in ("evil", "alert", "script", "passwd", "javascript", "onload", "foreign", "import", "filter", "<use"):
        assert word not in safe
    assert rebuild(safe) == safe


@pytest.mark.parametrize("name", REFUSED)
def test_bombs_and_nonsense_are_refused_with_a_reason(name):
    text, match = REFUSED[name]
    with pytest.raises(ValueError, match=match):
        rebuild(text)


def test_title_description_and_metadata_are_written_once():
    source = f"{HEAD}><title>old</title>{DOT}</svg>"
    safe = rebuild(source, title="a <b> & c\x00", description="round", metadata={"model": "nano", "seed": 3})
    assert "<title>a &lt;b&gt; &amp; c</title>" in safe and "old" not in safe and "<desc>round</desc>" in safe
    start, end = safe.index("<metadata>") + len("<metadata>"), safe.index("</metadata>")
    assert json.loads(safe[start:end]) == {"model": "nano", "seed": 3}
    assert "old" in rebuild(source)


def test_allowed_parts_survive():
    source = (
        f'{HEAD}><defs><linearGradient id="a"><stop offset="0" stop-color="#f00"/></linearGradient></defs>'
        f'<g transform="translate(4 4) scale(0.5)"><rect id="r" width="9" height="9" fill="url(#a)"/></g>'
        f'<use href="#r"/><text x="4" y="9">hi <tspan>you</tspan></text></svg>'
    )
    safe = rebuild(source)
    for part in ('fill="url(#a)"', 'href="#r"', "translate(4 4) scale(0.5)", "<tspan>you</tspan>", 'stop-color="#f00"'):
        assert part in safe


def test_outside_text_is_drawn_in_a_child():
    pixels = rasterise(ATTACKS["script"], 32)
    assert (
        pixels.shape == (32, 32, 3) and tuple(pixels[16, 16]) == (255, 0, 0) and tuple(pixels[0, 0]) == (255, 255, 255)
    )
    clear = rasterise(ATTACKS["script"].replace("0 0 96 96", "0 0 96 192"), 32, None)
    assert clear.shape == (32, 16, 4) and clear[0, 0, 3] == 0


def test_a_slow_drawing_is_ended():
    with pytest.raises(ValueError, match="longer than 0.01 seconds"):
        rasterise(ATTACKS["script"], 32, timeout=0.01)
    with pytest.raises(ValueError, match="1 to 4096 pixels, not 9999"):
        rasterise(ATTACKS["script"], 9999)


SECRET = "#0a0b0c"  # the colour of a file that must not be read
BOMBS = {
    "entities that multiply": "<!DOCTYPE s [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {b} '{f'&{a};' * 10}'>" for a, b in zip("abcdefg", "bcdefgh", strict=True))
    + f"]>{HEAD}><text>&h;</text></svg>",
    "entity of a file": f"<!DOCTYPE s [<!ENTITY a SYSTEM 'file:///etc/hostname'>]>{HEAD}><text>&a;</text></svg>",
    "uses that multiply": HEAD + f'><g id="a0">{DOT}</g>' + "".join(
        f'<g id="a{n + 1}">' + f'<use href="#a{n}"/>' * 10 + "</g>" for n in range(7)
    ) + '<use href="#a7"/></svg>',
    "20,000 nested groups": HEAD + ">" + "<g>" * 20_000 + DOT + "</g>" * 20_000 + "</svg>",
    "500 nested groups with opacity": HEAD + ">" + '<g opacity=".9">' * 500 + DOT + "</g>" * 500 + "</svg>",
    "a use of itself": f'{HEAD}><g id="a">{DOT}<use href="#a"/></g></svg>',
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_the_six_bombs_are_refused_at_once(name):
    started = time.monotonic()
    with pytest.raises(ValueError, match="document type|itself uses|deeper than 32|limit is 64"):
        rasterise(BOMBS[name], 64)
    assert time.monotonic() - started < 2


def test_a_filter_that_hangs_the_renderer_is_not_there_once_rebuilt():
    turbulence = '<feTurbulence baseFrequency="9" numOctaves="9999"/><feGaussianBlur stdDeviation="9999"/>'
    slow = f'{HEAD}><filter id="f">{turbulence}'
    started = time.monotonic()
    drawn = rasterise(slow + f'</filter><g filter="url(#f)">{DOT}</g></svg>', 64)
    assert tuple(drawn[32, 32]) == (255, 0, 0) and time.monotonic() - started < 5


def test_files_beside_are_not_read(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8), SECRET).save("secret.png")
    for name in ("secret.png", str(tmp_path / "secret.png"), f"file://{tmp_path}/secret.png"):
        drawn = rasterise(f'{HEAD}><image href="{name}" width="96" height="96"/>{DOT}</svg>', 32)
        assert tuple(drawn[2, 2]) == (255, 255, 255)


def test_work_that_takes_long_is_killed_on_time():
    veil = '<ellipse cx="48" cy="48" rx="48" ry="47" fill="red" opacity="0.5"/>'
    started = time.monotonic()
    with pytest.raises(ValueError, match="longer than 1 seconds"):
        rasterise(f"{HEAD}>{veil * 4900}</svg>", 4096, timeout=1)
    assert time.monotonic() - started < 4


@pytest.mark.parametrize("size", ['width="1" height="999999999"', 'viewBox="0 0 1e-9 1e9"', 'viewBox="0 0 0 9"'])
def test_a_canvas_beyond_all_bounds_stays_within_the_asked_size(size):
    try:
        drawn = rasterise(f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{DOT}</svg>', 64)
    except ValueError as error:
        assert "could not be drawn" in str(error)
    else:
        assert max(drawn.shape) == 64
