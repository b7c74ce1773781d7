"""The verbs as tools for other models (Model Context Protocol, streamable HTTP at `/mcp`), over the same queue.

Source: the protocol as the public package `mcp` 2.3 speaks it.
"""

from __future__ import annotations

from typing import Any

from mcp.server.mcpserver import Context, Image, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

import dsv4

from ..house import House
from ..media import Asset


def mcp_server(house: House) -> MCPServer:
    """The tools on a house."""
    server = MCPServer(
        "dsv4-studio",
        version=dsv4.__version__,
        log_level="WARNING",
        instructions="A small model of a closed world: icons and drawings as SVG, simple pictures, clips, definitions.",
    )

    @server.tool()
    async def ask(prompt: str, ctx: Context, seed: int = 0, model: str = "") -> str:
        """Ask the small model in words, for example what a word means."""
        job = await _done(house, ctx, "chat", {"prompt": prompt, "seed": seed, "model": model})
        return job.result["text"]

    @server.tool()
    async def draw_svg(prompt: str, ctx: Context, seed: int = 0, model: str = "") -> str:
        """Draw an icon or a small scene; returns safe, editable SVG."""
        job = await _done(house, ctx, "svg", {"prompt": prompt, "seed": seed, "model": model})
        return _file(house, job).path.read_text(encoding="utf-8")

    @server.tool(structured_output=False)
    async def paint_picture(prompt: str, ctx: Context, seed: int = 0, size: int = 128, model: str = "") -> Image:
        """Paint one to three things on a ground; returns a PNG."""
        job = await _done(house, ctx, "image", {"prompt": prompt, "seed": seed, "size": size, "model": model})
        return Image(data=_file(house, job).path.read_bytes(), format="png")

    @server.tool()
    async def make_clip(
        prompt: str, ctx: Context, seed: int = 0, seconds: float = 2.0, model: str = ""
    ) -> dict[str, str]:
        """Make a short silent clip; returns the id and the path of its MP4 on this server."""
        job = await _done(house, ctx, "video", {"prompt": prompt, "seed": seed, "seconds": seconds, "model": model})
        asset = _file(house, job)
        return {"file_id": asset.id, "path": f"/v1/files/{asset.id}/content", "type": asset.type}

    @server.tool()
    async def read_document(
        file_id: str, ctx: Context, task: str = "markdown", find: str = "", model: str = ""
    ) -> dict[str, Any]:
        """Read an uploaded document (POST /v1/files): markdown and pages with boxes, if the loaded model can read."""
        job = await _done(house, ctx, "read", {"shown": [file_id], "task": task, "find": find, "model": model})
        return {"text": job.result["text"], "pages": job.result["pages"]}

    return server


def mcp_app(server: MCPServer) -> Starlette:
    """The server as an application to mount; host and origin were checked by the guard in front of it."""
    security = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return server.streamable_http_app(
        streamable_http_path="/", stateless_http=True, json_response=True, transport_security=security
    )


async def _done(house: House, ctx: Context, kind: str, params: dict[str, Any]) -> Any:
    request: Any = ctx.request_context.request
    owner, lane = request.scope["user"], request.scope["lane"]
    try:
        job = house.submit(kind, params, owner=owner, lane=lane, source="mcp")
    except ValueError as error:
        raise ToolError(str(error)) from error
    job = await house.over(job.id, owner)
    if job.state != "done":
        raise ToolError(job.error or f"the job was {job.state}")
    return job


def _file(house: House, job: Any) -> Asset:
    return house.made(job)[0]
