"""What a browser is refused, and what it is told about every answer.

The page is for one machine. A site that an operator happens to visit can still make their browser ask 127.0.0.1:
under a name of its own that it lets point there (DNS rebinding; refused by `Host`), or across origins (CSRF; refused
by `Origin` and `Sec-Fetch-Site`, and an action needs a header that no form can send).
"""

from __future__ import annotations

from secrets import compare_digest
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; font-src 'none';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}
_SAME = ("same-origin", "none")


class SameOrigin:
    """Middleware: refuses what another site makes a browser ask, and sets the headers that protect the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request; only HTTP is served."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _ALWAYS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store" if scope["path"].startswith("/api/") else "no-cache")
            await send(message)

        problem = cross_origin_problem(scope["method"], scope["path"], Headers(scope=scope))
        if problem:
            await JSONResponse({"error": problem}, 403)(scope, receive, send_with_headers)
        else:
            await self._app(scope, receive, send_with_headers)


def cross_origin_problem(method: str, path: str, headers: Headers) -> str | None:
    """Why a request is refused; None when the page itself, or a program without a browser, asks."""
    if len(headers.getlist("host")) != 1:
        return "one Host header is needed"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != headers["host"].lower():
        return "Origin is another site"
    follows_a_link = method in ("GET", "HEAD") and not path.startswith("/api/")
    if headers.get("sec-fetch-site", "none") not in _SAME and not follows_a_link:
        return "asked from another site"
    return None


def has_token(headers: Headers, token: str) -> bool:
    """Whether `Authorization: Bearer TOKEN` carries the token; takes as long for a near miss as for any other."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return scheme.lower() == "bearer" and compare_digest(given.strip().encode(), token.encode())
