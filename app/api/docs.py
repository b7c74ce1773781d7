"""The page that documents the API: made on the server from the OpenAPI document, without a script."""

from __future__ import annotations

import json
from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, JSONResponse

router = APIRouter(include_in_schema=False)
STYLE = """
:root {
  color-scheme: light dark; --line: #e2ddd6; --soft: #6f6862; --card: #fff; --ground: #faf9f7; --text: #1c1917;
  --key: #0f766e
}
@media (prefers-color-scheme: dark) {
  :root { --line: #38332f; --soft: #a8a29e; --card: #211e1c; --ground: #171514; --text: #f5f5f4; --key: #5eead4 }
}
body { margin: 0; font: 16px/1.55 ui-sans-serif, system-ui, sans-serif; background: var(--ground); color: var(--text) }
main { max-width: 780px; margin: 0 auto; padding: 32px 16px 64px }
h1 { font-size: 1.5rem; margin: 0 0 4px } h2 { font-size: 1rem; margin: 0; overflow-wrap: anywhere }
p { margin: 6px 0 0; color: var(--soft) } a { color: var(--key) }
article {
  background: var(--card); border: 1px solid var(--line); border-radius: 12px; padding: 14px 18px; margin-top: 14px
}
code, pre { font: 13px/1.5 ui-monospace, Menlo, Consolas, monospace }
pre { overflow-x: auto; background: var(--ground); border-radius: 8px; padding: 10px 12px; margin: 10px 0 0 }
b { color: var(--key); font: 600 12px ui-monospace, monospace; margin-right: 8px }
"""
INTRO = (
    "Every route stands on one queue that outlives its callers. Public chat clients work unchanged: give them this "
    "address with <code>/v1</code> as base, and any key where none is set. Streams carry event ids and go on after "
    "<code>Last-Event-ID</code>. Tools for other models are at <code>/mcp</code>."
)


@router.get("/openapi.json")
async def schema(request: Request) -> JSONResponse:
    """The OpenAPI document."""
    return JSONResponse(request.app.openapi())


@router.get("/docs")
async def page(request: Request) -> HTMLResponse:
    """The API, for people."""
    address = str(request.base_url).rstrip("/")
    cards = "".join(
        _card(address, path, method, entry)
        for path, methods in request.app.openapi()["paths"].items()
        for method, entry in methods.items()
    )
    head = '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>dsv4 studio: API</title>'
    view = '<meta name="viewport" content="width=device-width, initial-scale=1">'
    links = '<p><a href="./">The page</a> · <a href="openapi.json">OpenAPI document</a></p>'
    body = f"<main><h1>dsv4 studio API</h1><p>{INTRO}</p>{links}{cards}</main>"
    return HTMLResponse(f"{head}{view}<style>{STYLE}</style></head><body>{body}</body></html>")


def _card(address: str, path: str, method: str, entry: dict[str, Any]) -> str:
    words = escape(entry.get("description", "")).replace("\n", " ")
    example = entry.get("example")
    curl = ""
    if example:
        body = json.dumps(example)
        text = f"curl {address}{path} -H 'content-type: application/json' \\\n  -d '{body}'"
        curl = f'<pre tabindex="0">{escape(text)}</pre>'
    return f"<article><h2><b>{method.upper()}</b>{escape(path)}</h2><p>{words}</p>{curl}</article>"
