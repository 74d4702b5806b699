"""Why a request counts as failed: one short name per cause, so that a report can add them up.

A name never depends on a server's wording; the wording goes into the detail.
"""

from __future__ import annotations

import socket
import ssl

MEANINGS = {
    "name_not_resolved": "the target's host name has no address",
    "connect_refused": "nobody listens at the target's port",
    "connect_timeout": "the connection was not accepted within the time limit",
    "connect_failed": "the connection could not be made for another reason",
    "tls_error": "the TLS handshake or the certificate was refused",
    "connection_reset": "the server reset the connection",
    "connection_closed": "the server closed the connection before the response was complete",
    "connection_error": "the connection failed for another reason",
    "timeout": "the response was not complete within the time limit",
    "malformed_http": "the bytes received are not an HTTP/1.1 response",
    "not_sse": "the response is not an event stream, though a stream was asked for",
    "malformed_event": "an event is not a chat completion chunk",
    "foreign_chunk": "a stream held a chunk of another request: their ids differ",
    "error_event": "the server reported an error inside the stream",
    "no_finish_reason": "the stream ended without a finish reason",
    "no_done": "the stream ended without the closing [DONE]",
    "data_after_done": "an event followed the closing [DONE]",
    "not_sent": "no stream of an open loop was free before the run's end: allow more with --users",
    "http_NNN": "the server answered with the status NNN instead of 200",
}
"""Every name that `ExchangeFailure.kind` can take, and what it means."""


class ExchangeFailure(Exception):
    """A request that did not get a whole, well-formed stream.

    `kind` is a key of `MEANINGS` (`http_503` stands under `http_NNN`), `detail` one line for a person.
    """

    def __init__(self, kind: str, detail: str) -> None:
        super().__init__(f"{kind}: {detail}")
        self.kind = kind
        self.detail = detail


def connect_failure(error: OSError) -> ExchangeFailure:
    """Name an error that was raised while connecting."""
    if isinstance(error, ssl.SSLError):
        return ExchangeFailure("tls_error", str(error))
    if isinstance(error, socket.gaierror):
        return ExchangeFailure("name_not_resolved", str(error))
    if isinstance(error, ConnectionRefusedError):
        return ExchangeFailure("connect_refused", str(error))
    if isinstance(error, TimeoutError):
        return ExchangeFailure("connect_timeout", str(error))
    return ExchangeFailure("connect_failed", str(error))


def transfer_failure(error: OSError) -> ExchangeFailure:
    """Name an error that was raised while sending or receiving."""
    if isinstance(error, TimeoutError):
        return ExchangeFailure("timeout", "no complete response within the time limit")
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return ExchangeFailure("connection_reset", str(error))
    if isinstance(error, ssl.SSLError):
        return ExchangeFailure("tls_error", str(error))
    return ExchangeFailure("connection_error", str(error))
