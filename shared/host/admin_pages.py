"""Pages of our own inside Open WebUI, for its administrators."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from shared.host.resources import shared_resource
from shared.host.valves import function_is_active

PAGES_PATH = "/api/v1/aqueduct"
CSP = "Content-Security-Policy"
NOT_STORED = {"Cache-Control": "no-store"}


@dataclass(frozen=True, slots=True)
class AdminPage:
    """A page at `PAGES_PATH/name` and what it shows, at `PAGES_PATH/name.json`.

    `policy` is the page's Content-Security-Policy, `report` gives the JSON. Both are
    served while the function `function_id` is switched on.
    """

    name: str
    function_id: str
    html: str
    policy: str
    report: Callable[[], Awaitable[bytes]]

    @property
    def path(self) -> str:
        return f"{PAGES_PATH}/{self.name}"


def serve_admin_page(page: AdminPage) -> None:
    """Serve this page from now on, in place of an older one of the same name.

    Cheap when it is served already.
    """
    from open_webui.main import app

    served: dict[str, Any] = shared_resource("admin pages", dict)
    if served.get(page.name) is page:
        return
    stop_admin_page(app, page.path)
    # Before all others: the last one, which serves the interface, takes every path.
    app.router.routes[:0] = page_routes(page)
    served[page.name] = page


def stop_admin_page(app: Any, path: str) -> None:
    ours = (path, f"{path}.json")
    routes = app.router.routes
    routes[:] = [route for route in routes if getattr(route, "path", "") not in ours]


def page_routes(page: AdminPage) -> list[Route]:
    """The routes of the page and of its report."""

    async def html(request: Request) -> Response:
        # Who is no administrator gets the page as well, which then says so: it holds
        # no figures, and a browser would show a bare line of JSON otherwise.
        status = await page_status(request, page.function_id)
        return HTMLResponse(page.html, status, NOT_STORED | {CSP: page.policy})

    async def report(request: Request) -> Response:
        status = await page_status(request, page.function_id)
        text = await page.report() if status == 200 else b"{}"
        return Response(text, status, NOT_STORED, "application/json")

    return [Route(page.path, html), Route(f"{page.path}.json", report)]


async def page_status(request: Request, function_id: str) -> int:
    """The HTTP status for who asks: 200 for administrators while the function is on.

    Open WebUI itself tells who it is, by the login that a browser sends as a cookie, by
    a token or by an API key.
    """
    from fastapi import BackgroundTasks, HTTPException
    from open_webui.utils.auth import get_current_user

    try:
        user = await get_current_user(request, Response(), BackgroundTasks(), None)
    except HTTPException as refusal:
        return refusal.status_code
    if user.role != "admin":
        return 403
    return 200 if await function_is_active(function_id) else 404
