"""The page that asks for a name and a secret, where there are any; it works without a script."""

from __future__ import annotations

import re
from html import escape
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, RedirectResponse, Response

from .api.docs import STYLE
from .door import COOKIE, SESSION_SECONDS, Door

router = APIRouter(include_in_schema=False)
LONGEST = 4096  # bytes of the form
FORM = """
form { display: grid; gap: 12px; max-width: 340px; margin: 14vh auto 0; background: var(--card);
  border: 1px solid var(--line); border-radius: 14px; padding: 26px }
label { display: grid; gap: 4px; font-size: 0.9rem } .bad { color: #dc2626; margin: 0 }
input {
  font: inherit; padding: 9px 11px; border: 1px solid var(--line); border-radius: 9px; background: var(--ground);
  color: inherit
}
button {
  font: inherit; font-weight: 600; padding: 10px; border: 0; border-radius: 9px; background: #0f766e; color: #fff;
  cursor: pointer
}
"""


@router.get("/login")
async def ask(request: Request) -> Response:
    """The form."""
    if not _door(request).locked:
        return RedirectResponse(_root(request), status_code=303)
    return _form(request.query_params.get("next", "/"))


@router.post("/login")
async def enter(request: Request) -> Response:
    """A session for the right secret; the same answer for a wrong name and a wrong secret."""
    body = await request.body()
    given = parse_qs(body[: LONGEST + 1].decode("utf-8", "replace"), max_num_fields=8) if len(body) <= LONGEST else {}
    name, secret, goal = (given.get(key, [""])[0] for key in ("name", "secret", "next"))
    door = _door(request)
    address = request.client.host if request.client else "unknown"
    if not door.login(name, secret, address):
        return _form(goal, "That name and secret do not belong together.", status=401)
    answer = RedirectResponse(_root(request) + safe_path(goal).lstrip("/"), status_code=303)
    answer.set_cookie(
        COOKIE, door.session(name.strip()), max_age=SESSION_SECONDS, httponly=True, samesite="strict",
        secure=request.url.scheme == "https",
    )  # fmt: skip
    return answer


@router.post("/logout")
async def leave(request: Request) -> Response:
    """Forget the session of this browser."""
    answer = RedirectResponse(f"{_root(request)}login", status_code=303)
    answer.delete_cookie(COOKIE)
    return answer


def safe_path(goal: str) -> str:
    """A path on this server, whatever was asked for: never another host."""
    return goal if re.fullmatch(r"/(?![/\\])[\w\-./~%=&?]*", goal) and ".." not in goal else "/"


def _door(request: Request) -> Door:
    return request.app.state.door


def _root(request: Request) -> str:
    return f"{request.scope.get('root_path', '')}/"


def _form(goal: str, complaint: str = "", status: int = 200) -> HTMLResponse:
    bad = f'<p class="bad" role="alert">{escape(complaint)}</p>' if complaint else ""
    html = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>dsv4 studio: log in</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}{FORM}</style></head>'
        "<body><main>"
        f'<form method="post" action="login"><h1>dsv4 studio</h1>{bad}'
        '<label>Name<input name="name" autocomplete="username" required autofocus></label>'
        '<label>Secret<input name="secret" type="password" autocomplete="current-password" required></label>'
        f'<input type="hidden" name="next" value="{escape(safe_path(goal), quote=True)}">'
        "<button>Log in</button></form></main></body></html>"
    )
    return HTMLResponse(html, status_code=status)
