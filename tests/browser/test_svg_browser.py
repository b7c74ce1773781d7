"""Sixteen ways of hiding a script or an address in an SVG, tried in a browser: nothing acts once it is rebuilt."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image

from dsv4.instructions import poses_of
from generation.svg import at_time, moving, rasterise, rebuild
from tests.browser.conftest import closed_page

HEAD = '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" viewBox="0 0 100 100"'
DOT = '<circle cx="50" cy="50" r="9" fill="red"/>'
HTML = 'xmlns="http://www.w3.org/1999/xhtml"'
ACT = "window.acted=1"
AWAY = "http://127.0.0.1:9"
INNER = quote(f'<svg id="x" xmlns="http://www.w3.org/2000/svg" onload="top.acted=1">{DOT}</svg>')

VECTORS = {
    "script": f"{HEAD}><script>{ACT}</script>{DOT}</svg>",
    "onload": f'{HEAD} onload="{ACT}">{DOT}</svg>',
    "handler of an animation": f'{HEAD}><animate onbegin="{ACT}" attributeName="x" dur="1s"/>{DOT}</svg>',
    "picture in foreign content": f'{HEAD}><foreignObject width="90" height="90"><body {HTML}><img src="x" '
    f'onerror="{ACT}"/></body></foreignObject>{DOT}</svg>',
    "frame in foreign content": f'{HEAD}><foreignObject width="90" height="90"><iframe {HTML} '
    f'src="javascript:parent.acted=1"/></foreignObject>{DOT}</svg>',
    "link that is clicked": f'{HEAD}><a xlink:href="javascript:{ACT}"><rect width="100" height="100"/></a>{DOT}</svg>',
    "link that is set and clicked": f'{HEAD}><a><set attributeName="href" to="javascript:{ACT}"/>'
    f'<rect width="100" height="100"/></a>{DOT}</svg>',
    "use of data": f'{HEAD}><use href="data:image/svg+xml,{INNER}#x"/>{DOT}</svg>',
    "picture of data": f'{HEAD}><image href="data:image/svg+xml,{INNER}"/>{DOT}</svg>',
    "style sheet": f'{HEAD}><style>@import "{AWAY}/x.css"; * {{background:url({AWAY}/y)}}</style>{DOT}</svg>',
    "end of a title": f"{HEAD}><title><![CDATA[</title><script>{ACT}</script>]]></title>{DOT}</svg>",
    "end of a style": f"{HEAD}><style><![CDATA[</style><img src=x onerror={ACT}>]]></style>{DOT}</svg>",
    "HTML in a description": f'{HEAD}><desc><img {HTML} src="x" onerror="{ACT}"/></desc>{DOT}</svg>',
    "picture from elsewhere": f'{HEAD}><image href="{AWAY}/leak.png" width="5" height="5"/>{DOT}</svg>',
    "script by another name": f'{HEAD} xmlns:h="http://www.w3.org/1999/xhtml"><h:script>{ACT}</h:script>{DOT}</svg>',
    "paint from elsewhere": f'{HEAD}><rect width="9" height="9" fill="url({AWAY}/g.svg#a)"/>{DOT}</svg>',
}
# What acts when it is put into a page as it came: if these did nothing, the tests below would prove nothing.
ACTING = (
    "script", "onload", "handler of an animation", "picture in foreign content", "link that is clicked",
    "HTML in a description", "style sheet", "picture from elsewhere", "paint from elsewhere",
)  # fmt: skip


@pytest.fixture(scope="module")
def page(chromium: Any) -> Iterator[Any]:
    """One page for all vectors; a new one for each would take most of the time."""
    yield from closed_page(chromium)


def acts(page: Any, html: str) -> bool:
    """Whether the page ran a script or asked for an address, also after a click on its middle."""
    page.asked.clear()
    page.set_content(f'<body style="margin:0"><script>window.acted=0</script>{html}')
    page.wait_for_timeout(60)
    page.mouse.click(30, 30)
    page.wait_for_timeout(40)
    return bool(page.evaluate("window.acted || 0")) or bool(page.asked)


HOLD = "t => { const svg = document.body.firstElementChild; svg.pauseAnimations(); svg.setCurrentTime(t); }"


def test_there_are_sixteen():
    assert len(VECTORS) == 16 and set(ACTING) <= set(VECTORS)


@pytest.mark.parametrize("name", ACTING)
def test_the_vector_acts_when_it_is_put_into_a_page_as_it_came(page, name):
    assert acts(page, VECTORS[name])


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_acts_once_it_is_rebuilt_even_inside_the_page(page, name):
    safe = rebuild(VECTORS[name])
    assert DOT in safe
    assert not acts(page, safe)


@pytest.mark.parametrize("name", VECTORS)
def test_nothing_acts_as_a_picture_as_the_studio_shows_it(page, name):
    assert not acts(page, f'<img width="100" height="100" src="data:image/svg+xml,{quote(VECTORS[name])}">')


@pytest.mark.parametrize("motion", ["bouncing", "spinning", "shrinking", "swinging"])
def test_the_browser_plays_a_motion_as_we_sample_it(page, motion):
    drawing = '<svg viewBox="0 0 100 100"><path fill="red" d="M 30 20L 80 50L 30 80z"/></svg>'
    svg = moving(drawing, poses_of(motion), 2)
    shown_at_100 = svg.replace("<svg ", '<svg width="100" height="100" style="display:block" ', 1)
    page.set_content(f'<body style="margin:0">{shown_at_100}')
    for seconds in (0.0, 0.35, 1.3):
        page.evaluate(HOLD, seconds)
        shot = page.screenshot(clip={"x": 0, "y": 0, "width": 100, "height": 100})
        shown = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB")).astype(int)
        ours = rasterise(at_time(svg, seconds), 100).astype(int)
        assert np.abs(shown - ours).mean() < 1.5
        assert np.abs(shown - 255).mean() > 5


def test_a_moving_drawing_plays_as_a_picture(page):
    square = '<svg viewBox="0 0 100 100"><rect x="40" y="40" width="20" height="20"/></svg>'
    svg = moving(square, poses_of("moving right"), 2)
    page.set_content(f'<body style="margin:0"><img width="100" height="100" src="data:image/svg+xml,{quote(svg)}">')
    page.wait_for_timeout(100)
    before = page.screenshot()
    page.wait_for_timeout(400)
    assert page.screenshot() != before
