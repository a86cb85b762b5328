"""
Addresses, views, and the form of an answer.

To add a page: write a view, `(Desk, Request) -> View`, its template, and its line in `VIEWS`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from mimetypes import guess_type
from pathlib import Path
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from bedrock_guard.cli.safe_text import to_json
from bedrock_guard.dashboard.desk import LIVE_FILTERS, Desk, NotFound, View, read_given, where_of
from bedrock_guard.dashboard.gate import Door, Gate
from bedrock_guard.dashboard.live import Events, IsStopping
from bedrock_guard.dashboard.rendering import templates
from bedrock_guard.dashboard.views import caching, journal, notices, overview, spending
from bedrock_guard.errors import ConfigurationError, LedgerUnavailable

# Address, name in the navigation (none: reached from another page), view.
VIEWS: Final[tuple[tuple[str, str | None, Callable[[Desk, Request], View]], ...]] = (
    ("/", "Overview", overview.overview),
    ("/spend", "Spend", spending.spend),
    ("/caches", "Caches", caching.caches),
    ("/live", "Live", journal.live),
    ("/entries", "Entries", journal.entries),
    ("/entry", None, journal.entry),
    ("/alerts", "Alerts", notices.alerts),
    ("/stops", "Stops", notices.stops),
)
_JSON: Final = "application/json"
_STATIC: Final = Path(__file__).parent / "static"
_OVERVIEW_JSON: Final = "/overview.json"


def make_app(desk: Desk, door: Door, *, is_stopping: IsStopping) -> ASGIApp:
    """
    The dashboard of what is on *desk*, for those whom *door* lets in; streams end when *is_stopping* says so.
    """
    templates()
    routes = [
        route
        for path, _, view in VIEWS
        for route in (
            Route(path, _page(desk, view)),
            Route(
                _OVERVIEW_JSON if path == "/" else f"{path}.json",
                _page(desk, view, is_json=True),
            ),
        )
    ]
    routes += [Route("/live.events", _events(desk, is_stopping)), *_static_routes()]
    app = Starlette(
        routes=routes,
        exception_handlers={
            404: _told(desk, 404, "There is no such page."),
            ConfigurationError: _told(desk, 400),
            NotFound: _told(desk, 404),
            LedgerUnavailable: _told(desk, 503),
        },
    )
    return Gate(app, door)


def _page(
    desk: Desk, view: Callable[[Desk, Request], View], *, is_json: bool = False
) -> Callable[[Request], Response]:
    """
    What answers for *view*; in a thread, as ledgers may wait.
    """

    def answer(request: Request) -> Response:
        found = view(desk, request)
        if is_json or _wants_json(request):
            return Response(to_json(found.data), media_type=_JSON, headers={"Vary": "Accept"})
        return _html(desk, found.template, request, {**found.context, "given": found.given})

    return answer


def _html(
    desk: Desk, template: str, request: Request, context: dict[str, Any], status: int = 200
) -> Response:
    text = (
        templates()
        .get_template(template)
        .render(
            path=request.url.path,
            query=request.url.query,
            navigation=[view[:2] for view in VIEWS if view[1]],
            ledger=desk.reading.url,
            **context,
        )
    )
    return HTMLResponse(text, status, headers={"Vary": "Accept"})


def _wants_json(request: Request) -> bool:
    accepted = request.headers.get("accept", "")
    return _JSON in accepted and "text/html" not in accepted


def _told(desk: Desk, status: int, text: str | None = None) -> Any:
    """
    What answers for an error: its own words, or *text*.
    """

    def answer(request: Request, error: Exception) -> Response:
        # Of options, as commands have them, the names alone are in an address.
        told = text or str(error).removeprefix("--")
        if request.url.path.endswith(".json") or _wants_json(request):
            return Response(to_json({"error": told}), status, media_type=_JSON)
        return _html(desk, "error.html", request, {"text": told, "given": []}, status)

    return answer


def _events(desk: Desk, is_stopping: IsStopping) -> Callable[[Request], Response]:
    async def answer(request: Request) -> Response:
        where = where_of(read_given(request, LIVE_FILTERS), desk.zone)
        if desk.hub.is_full or is_stopping():
            text = "As many browsers follow as can; reload to see what is new."
            return PlainTextResponse(text, 503, headers={"Retry-After": "30"})
        if request.method == "HEAD":  # which nothing follows
            return Response(media_type=Events.media_type)
        last_id = request.headers.get("last-event-id")
        return Events(desk.hub, where, last_id, lambda each: journal.row(desk, each), is_stopping)

    return answer  # type: ignore[return-value]  # Starlette takes both


def _static_routes() -> list[Route]:
    """
    A route for each file that is there when the server starts: no address is ever made a path.
    """
    files = sorted(path for path in _STATIC.rglob("*") if path.is_file())
    return [Route(f"/static/{path.relative_to(_STATIC).as_posix()}", _static(path)) for path in files]


def _static(path: Path) -> Callable[[Request], Response]:
    body = path.read_bytes()
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    kind = guess_type(path.name)[0] or "text/plain"

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(body, media_type=kind, headers=headers)

    return answer  # type: ignore[return-value]
