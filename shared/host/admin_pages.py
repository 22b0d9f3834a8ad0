"""Pages of our own inside Open WebUI, for its administrators."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from shared.host.resources import shared_resource
from shared.host.valves import function_is_active

PAGES_PATH = "/api/v1/aqueduct"


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


def page_routes(page: AdminPage) -> list[Any]:
    """The routes of the page and of its report, for whom Open WebUI lets pass."""
    from fastapi import APIRouter, Depends
    from open_webui.utils.auth import (
        get_admin_user,
        get_optional_verified_user_from_request,
    )

    async def html(request: Request) -> Response:
        # What is no administrator gets the page as well, which then says so: it holds
        # no figures, and a browser would show a bare line of JSON otherwise.
        user = await get_optional_verified_user_from_request(request)
        status = 401 if user is None else 200 if user.role == "admin" else 403
        if not await function_is_active(page.function_id):
            status = 404
        headers = {"Content-Security-Policy": page.policy, "Cache-Control": "no-store"}
        return HTMLResponse(page.html, status, headers)

    async def report() -> Response:
        if not await function_is_active(page.function_id):
            return Response(status_code=404)
        headers = {"Cache-Control": "no-store"}
        return Response(
            await page.report(), headers=headers, media_type="application/json"
        )

    router = APIRouter(include_in_schema=False)
    router.add_api_route(page.path, html)
    router.add_api_route(
        f"{page.path}.json", report, dependencies=[Depends(get_admin_user)]
    )
    return list(router.routes)
