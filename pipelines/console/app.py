"""The console as a web application: the page, its events, its questions to the tables, and actions."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from pipelines.console.desk import Desk
from pipelines.console.guard import SameOrigin, has_token
from pipelines.console.tables import Tables
from pipelines.errors import GridwatchError, InfrastructureUnavailable, SettingsError
from pipelines.settings import Settings

PAGE = Path(__file__).parent / "page"

_LARGEST_ACTION = 8192
_LONGEST_VIEW_MIN = 24 * 60

Handler = Callable[[Request], Awaitable[Response]]


def build_app(settings: Settings) -> Starlette:
    """The application; it begins to read Kafka when it is started and ends that when it is stopped."""
    desk = Desk(settings)

    @asynccontextmanager
    async def reading(_app: Starlette) -> AsyncIterator[None]:
        desk.start(asyncio.get_running_loop())
        yield
        desk.hub.close()
        await asyncio.to_thread(desk.stop)

    app = Starlette(
        routes=[
            Route("/api/events", events),
            Route("/api/state", state),
            Route("/api/feeders", feeders),
            Route("/api/meters", meters),
            Route("/api/meter", meter),
            Route("/api/findings", findings),
            Route("/api/token", check_token),
            Route("/api/actions", act, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.console.names), www_redirect=False),
            Middleware(SameOrigin),
        ],
        exception_handlers={GridwatchError: _refuse},
        lifespan=reading,
    )
    app.state.desk = desk
    return app


async def events(request: Request) -> Response:
    """Server-sent events: a snapshot, then what changes."""
    desk = _desk(request)
    if desk.hub.is_full:
        return JSONResponse({"error": "as many pages are open as may be (console.clients)"}, 503)
    return StreamingResponse(desk.hub.listen(desk.greeting()), media_type="text/event-stream")


async def state(request: Request) -> Response:
    """The same snapshot for a script."""
    return JSONResponse(_desk(request).snapshot())


async def feeders(request: Request) -> Response:
    """Every feeder at the latest window end."""
    return JSONResponse(await _desk(request).ask(Tables.feeders))


async def meters(request: Request) -> Response:
    """The meters of a feeder (`feeder`), or those whose id contains `q`."""
    desk, asked = _desk(request), request.query_params
    if "feeder" in asked:
        return JSONResponse(await desk.ask(Tables.meters, asked["feeder"]))
    return JSONResponse(await desk.ask(Tables.search, asked.get("q", "")))


async def meter(request: Request) -> Response:
    """One meter (`id`) over `minutes` up to `until`, epoch ms; without it up to the newest reading."""
    asked = request.query_params
    minutes = _number(asked.get("minutes", "60"), "minutes", 1, _LONGEST_VIEW_MIN)
    until = _number(asked["until"], "until", 0, 253402300799999) if asked.get("until") else None
    until_ms = None if until is None else int(until)
    return JSONResponse(await _desk(request).ask(Tables.meter, asked.get("id", ""), until_ms=until_ms, minutes=minutes))


async def findings(request: Request) -> Response:
    """The stored anomalies behind an incident (`incident`)."""
    desk = _desk(request)
    incident = desk.board.incidents.get(request.query_params.get("incident", ""))
    if incident is None:
        return JSONResponse({"error": "no such incident at hand"}, 404)
    scope = incident["scope"]
    scope_id = incident["meterId"] if scope == "meter" else incident["feederId"]
    span = incident["openedAt"], incident["closedAt"] or incident["lastAnomalyAt"]
    return JSONResponse(await desk.ask(Tables.findings, scope, scope_id, *span))


async def check_token(request: Request) -> Response:
    """Whether the token that was sent is the right one."""
    return _unless_allowed(request) or JSONResponse({"ok": True})


async def act(request: Request) -> Response:
    """Acknowledge, mute or give feedback: written to Kafka before it is answered."""
    if refused := _unless_allowed(request):
        return refused
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        return JSONResponse({"error": "an action is application/json"}, 415)
    body = b""
    async for part in request.stream():
        body += part
        if len(body) > _LARGEST_ACTION:
            return JSONResponse({"error": f"an action has at most {_LARGEST_ACTION} bytes"}, 413)
    desk = _desk(request)
    document = desk.document_of(_object(body))
    await asyncio.to_thread(desk.send, document)
    return JSONResponse(document, 201)


def _unless_allowed(request: Request) -> Response | None:
    token = _desk(request).settings.console.token
    if token is None:
        return JSONResponse({"error": "read-only: the console was started without GRIDWATCH_CONSOLE__TOKEN"}, 403)
    if not has_token(request.headers, token.get_secret_value()):
        return JSONResponse({"error": "the token is missing or wrong"}, 401, {"WWW-Authenticate": "Bearer"})
    return None


async def _refuse(_request: Request, error: Exception) -> Response:
    status = 503 if isinstance(error, InfrastructureUnavailable) else 400 if isinstance(error, SettingsError) else 500
    return JSONResponse({"error": str(error)}, status)


def _desk(request: Request) -> Desk:
    desk: Desk = request.app.state.desk
    return desk


def _object(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise SettingsError("an action is a JSON object")
    return found


def _number(text: str, name: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not least <= value <= most:
        raise SettingsError(f"{name} = {text[:40]}: a number from {least:g} to {most:g}")
    return value
