"""A first look at a server: is the URL one, and does something there speak HTTP? In one clear line."""

from __future__ import annotations

import http.client
import ssl
from urllib.parse import urlsplit

from realm_harness.report.text import one_line

CONNECT_SECONDS = 5.0
# A server with one thread may be in the middle of an answer.
REPLY_SECONDS = 20.0


class TargetUnusable(Exception):
    """The target cannot be tested; the message is one line with the remedy."""


def check_target(url: str) -> str:
    """The base URL, without a trailing slash or /v1, of a server that answers HTTP; raises TargetUnusable."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise TargetUnusable(f"{one_line(url)} is no URL: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise TargetUnusable(f"{one_line(url)} is no http:// or https:// URL, as http://127.0.0.1:8000")
    if parts.username is not None or parts.password is not None:
        raise TargetUnusable(
            "the URL carries a user name or password; give the key with REALM_API_KEY instead"
        )
    if parts.query or parts.fragment:
        raise TargetUnusable("the URL has a query or fragment; give the base URL, as http://127.0.0.1:8000")
    path = parts.path.rstrip("/").removesuffix("/v1")
    base = f"{parts.scheme}://{parts.netloc}{path}"
    _ask(parts.scheme, parts.hostname, port, path, base)
    return base


def _ask(scheme: str, host: str, port: int | None, path: str, base: str) -> None:
    connection: http.client.HTTPConnection
    if scheme == "https":
        connection = http.client.HTTPSConnection(
            host, port, timeout=CONNECT_SECONDS, context=ssl.create_default_context()
        )
    else:
        connection = http.client.HTTPConnection(host, port, timeout=CONNECT_SECONDS)
    try:
        connection.connect()
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = one_line(getattr(error, "strerror", None) or str(error) or type(error).__name__)
        raise TargetUnusable(
            f"nothing answers at {base} ({reason}). Is the server running, and is this its URL?"
        ) from None
    try:
        connection.sock.settimeout(REPLY_SECONDS)
        connection.request("GET", f"{path}/v1/models")
        connection.getresponse().read(1)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # A status of any kind is an answer; whether it is a right one is the conformance cases' question.
        raise TargetUnusable(
            f"{base} accepts connections, but does not answer HTTP ({one_line(str(error) or 'no reply')})"
        ) from None
    finally:
        connection.close()
