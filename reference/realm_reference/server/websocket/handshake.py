"""Who is there? With keys, the client's first message is its key, and it has seconds to send it."""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import WSCloseCode

from realm_reference.server.access.auth import Authenticator
from realm_reference.server.errors import ApiError
from realm_reference.server.requests import checks
from realm_reference.server.routes.operations import VERSION
from realm_reference.server.websocket.socket import Socket
from realm_reference.server.wire import jsonbody
from realm_reference.tenants import Caller

_STRANGERS_BYTES: Final = 4096
"""More than any key and a few pings; a stranger gets no buffer for a whole message."""


class Session:
    """A client that has been let in. Its key is asked about at every call: one that is disabled opens no
    door any more, whenever it was shown. `who` is who it was when it came.
    """

    def __init__(self, auth: Authenticator, key: str | None) -> None:
        """ApiError 401 for a key that is not good."""
        self._auth = auth
        self._key = key
        self.who = self.caller()

    def caller(self) -> Caller:
        """Who this is now; ApiError 401 once the key is no longer good."""
        return self._auth.caller(None) if self._key is None else self._auth.caller_of_key(self._key)


async def let_in(socket: Socket, auth: Authenticator, seconds: float) -> Session | None:
    """Ask for a key where one is needed, and welcome the client; None when the connection is closed
    instead.
    """
    if not auth.required:
        session = Session(auth, None)
    else:
        socket.allow(_STRANGERS_BYTES)
        await socket.send({"type": "auth_required", "message": "Send {type: auth, api_key} first."})
        try:
            # Around it all: the client's pings do not buy it time.
            async with asyncio.timeout(seconds):
                text = await socket.receive(seconds)
            if text is None:
                return None
            session = Session(auth, _key(text))
        except TimeoutError:
            await _turn_away(socket, f"No API key came within {seconds:g} seconds.")
            return None
        except ApiError as error:
            await _turn_away(socket, error.message)
            return None
        socket.allow(None)
        await socket.send({"type": "auth_success", "tenant_id": session.who.tenant})
    await socket.send({"status": "connected", "version": VERSION, "tenant_id": session.who.tenant})
    return session


def _key(text: str) -> str:
    message = jsonbody.parse(text.encode(), "The message")
    if message.get("type") != "auth":
        raise ApiError(401, "The first message must be {type: auth, api_key}.", param="type")
    return checks.string("api_key", message.get("api_key"))


async def _turn_away(socket: Socket, reason: str) -> None:
    await socket.send({"type": "auth_failed", "error": reason})
    await socket.close(WSCloseCode.POLICY_VIOLATION, "authentication failed")
