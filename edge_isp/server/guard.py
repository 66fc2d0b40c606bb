"""Who may ask for what: the host's name, the token, and the origin of every change."""

from __future__ import annotations

import ipaddress
import re
import secrets
import socket
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# What a load balancer or a container's health check asks for; it says nothing but whether the service is well.
HEALTH_PATHS = frozenset({"/healthz", "/readyz"})
_READING = ("GET", "HEAD")
# Of a request, in bytes.
LONGEST_HEADERS = 16384
_YEAR_S = 365 * 24 * 3600

_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}


class Guard:
    """Answers what must not be answered by the application, and adds headers that protect the page.

    A web page elsewhere can make the visitor's browser ask for anything on this machine. So the name in `Host` must be
    this machine's (against DNS rebinding); a change must come from the page's own origin, or from a program that knows
    the token; and what a browser calls a request from another site is refused.

    Args:
        app: the application.
        token: every request must know it, as a cookie or as `Authorization: Bearer TOKEN`; None asks for none.
        hosts: names of this machine, in small letters; addresses are always accepted where a token is asked for.
        port: of the server, for the cookie's name.
        open_paths: what may be read without the token.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        token: str | None,
        hosts: frozenset[str],
        port: int,
        open_paths: frozenset[str] = HEALTH_PATHS,
    ) -> None:
        self._app, self._token, self._hosts, self._open_paths = app, token, hosts, open_paths
        self._cookie = f"edge_isp_{port}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See the ASGI specification."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer = self._answer(scope)
        if answer is not None:
            answer.headers.update(_HEADERS)
            await answer(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _answer(self, scope: Scope) -> Response | None:
        """A refusal or a redirection; None where the application may answer."""
        # h11 limits what has not arrived whole; what comes in one piece can be longer.
        if sum(len(name) + len(value) for name, value in scope["headers"]) > LONGEST_HEADERS:
            return _refusal(431, f"the headers must be at most {LONGEST_HEADERS} bytes")
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if not self._knows_host(host):
            return _refusal(
                403, f"the host '{host[:100]}' is not this server: use one of {', '.join(sorted(self._hosts))}"
            )
        if _from_another_site(headers):
            return _refusal(403, "requests from other web sites are refused")
        origin = headers.get("origin")
        if origin is not None and not _is_origin_of(origin, host):
            return _refusal(403, f"the origin '{origin[:100]}' is not this page")
        if scope["path"] in self._open_paths and scope["method"] in _READING:
            return None
        bearer = self._token is not None and self._bears_token(headers)
        if self._token is not None and not bearer and not self._has_cookie(headers):
            given = parse_qs(scope["query_string"].decode("latin-1")).get("token", [""])[0]
            if scope["path"] == "/" and scope["method"] == "GET" and self._is_token(given):
                return self._welcome()
            refusal = _refusal(401, "open the link with the token that the server printed when it started")
            refusal.headers["www-authenticate"] = "Bearer"
            return refusal
        if scope["method"] not in _READING and origin is None and not bearer:
            return _refusal(403, "a change needs the header Origin of this page, or Authorization: Bearer TOKEN")
        return None

    def _knows_host(self, host: str) -> bool:
        name = _name_of(host)
        if name is None:
            return False
        return name in self._hosts or (self._token is not None and _is_address(name))

    def _is_token(self, given: str) -> bool:
        assert self._token is not None
        return secrets.compare_digest(given.encode("utf-8", "replace"), self._token.encode())

    def _bears_token(self, headers: Headers) -> bool:
        scheme, _, given = headers.get("authorization", "").partition(" ")
        return scheme.lower() == "bearer" and self._is_token(given.strip())

    def _has_cookie(self, headers: Headers) -> bool:
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(self._cookie)
        except CookieError:
            return False
        return cookie is not None and self._is_token(cookie.value)

    def _welcome(self) -> Response:
        """Puts the token into a cookie, so that it does not stay in the address line."""
        assert self._token is not None
        answer = RedirectResponse("/", status_code=303)
        # Strict would not be sent after a click on the link in another page.
        answer.set_cookie(self._cookie, self._token, max_age=_YEAR_S, httponly=True, samesite="lax")
        return answer


def hosts_of(address: str) -> frozenset[str]:
    """Names under which a server on an address can be reached.

    Args:
        address: that it is bound to.
    """
    local = {"localhost", "127.0.0.1", "::1"}
    if is_local(address):
        return frozenset({*local, address.lower()})
    name = socket.gethostname().lower()
    return frozenset({*local, address.lower(), name, f"{name}.local"})


def is_local(address: str) -> bool:
    """Whether an address can be reached from this machine only.

    Args:
        address: a name or an address.
    """
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str | None:
    """The name in a `Host` header, in small letters; None where it is malformed."""
    match = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::[0-9]{1,5})?", host)
    return match and (match[1] or match[2]).lower()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_origin_of(origin: str, host: str) -> bool:
    return origin.lower() in (f"http://{host.lower()}", f"https://{host.lower()}")


def _from_another_site(headers: Headers) -> bool:
    """What browsers say of a request; a link on another page may lead here, nothing else."""
    elsewhere = headers.get("sec-fetch-site") in ("cross-site", "same-site")
    return elsewhere and (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) != ("navigate", "document")


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"error": message}, status_code=status)
