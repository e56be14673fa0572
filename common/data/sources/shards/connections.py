"""HTTP requests over connections that stay open, one for each thread and server: most requests need no new connection.

urllib does the rest: proxies, redirects, errors by status. Its own handlers close a connection after every request.
"""

import http.client
import io
import os
import threading
import time
import urllib.error
import urllib.request
import urllib.response
from dataclasses import dataclass
from functools import cache
from typing import Any

_READ_AT_ONCE = (206, 301, 302, 303, 307, 308)
"""Statuses of parts of a file and of redirects: their content is read at once, and the connection kept. After any other, it is
closed, since what was not read of it would be taken for the next answer."""


_IDLE_SECONDS = 30.0
"""Time without a request after which a connection is not used again: routers and load balancers forget idle connections, some
without a word, and a request over such a one waits for its timeout. They mostly do so after a minute or more."""


@dataclass
class _Connection:
    """A connection that stays open."""

    http: http.client.HTTPConnection
    last_use: float
    """Time of the last answer, in seconds of the monotonic clock."""


class _Kept(threading.local):
    """The connections of a thread, by protocol, server and the server behind a proxy."""

    def __init__(self) -> None:
        self.connections: dict[tuple[Any, ...], _Connection] = {}


_kept = _Kept()


def _close_in_child() -> None:
    """Close the connections in a fork: two processes would read each other's answers. The parent's stay open."""
    for connection in _kept.connections.values():
        connection.http.close()
    _kept.connections.clear()


os.register_at_fork(after_in_child=_close_in_child)


class _KeepingHandler(urllib.request.AbstractHTTPHandler):
    """Sends requests over kept connections."""

    def do_open(self, http_class: Any, req: urllib.request.Request, **http_conn_args: Any) -> Any:
        """Return the answer to a request; raise URLError or HTTPException without one."""
        tunnel = getattr(req, "_tunnel_host", None)  # the server, where `host` is a proxy
        headers = {name.title(): value for name, value in {**req.headers, **req.unredirected_hdrs}.items()}
        of_proxy = {name: headers.pop(name) for name in [*headers] if tunnel and name == "Proxy-Authorization"}
        key = http_class, req.host, tunnel
        kept = _kept.connections.get(key)
        if kept is None:
            kept = _Connection(http_class(req.host, timeout=req.timeout, **http_conn_args), time.monotonic())
            if tunnel:
                kept.http.set_tunnel(tunnel, headers=of_proxy)
            _kept.connections[key] = kept
        elif time.monotonic() - kept.last_use > _IDLE_SECONDS:
            kept.http.close()  # the request opens it again
        response, content = _send(kept.http, req, headers)
        answer: Any = response
        if content is None:
            del _kept.connections[key]
            if kept.http.sock is not None:  # the answer has the socket until it is closed
                kept.http.sock.close()
                kept.http.sock = None
        else:
            kept.last_use = time.monotonic()
            answer = urllib.response.addinfourl(io.BytesIO(content), response.headers, req.full_url, response.status)
        answer.url, answer.msg = req.full_url, response.reason  # as urllib's handlers have them
        return answer


def _send(
    connection: http.client.HTTPConnection, request: urllib.request.Request, headers: dict[str, str]
) -> tuple[http.client.HTTPResponse, bytes | None]:
    """Return the answer to a request and its content, None if the connection cannot be kept.

    A request over a connection that the server has closed meanwhile is sent again, over a new one.
    """
    was_open = connection.sock is not None
    try:
        connection.request(request.get_method(), request.selector, headers=headers)
        response = connection.getresponse()
        return response, response.read() if response.status in _READ_AT_ONCE else None
    except BaseException as error:
        connection.close()
        is_lost = isinstance(error, OSError | http.client.HTTPException) and not isinstance(error, TimeoutError)
        if was_open and is_lost:
            return _send(connection, request, headers)
        if isinstance(error, OSError):
            raise urllib.error.URLError(error) from error
        raise


class _HttpHandler(_KeepingHandler, urllib.request.HTTPHandler):
    """Handler of http://."""


class _HttpsHandler(_KeepingHandler, urllib.request.HTTPSHandler):
    """Handler of https://."""


@cache
def _opener() -> urllib.request.OpenerDirector:
    """Return what opens addresses, with the proxies of the environment."""
    return urllib.request.build_opener(_HttpHandler, _HttpsHandler)


def open_url(request: urllib.request.Request, *, timeout: float) -> Any:
    """Return the answer to a request, as `urllib.request.urlopen` does; `timeout` is in seconds, for each wait on the network."""
    return _opener().open(request, timeout=timeout)
