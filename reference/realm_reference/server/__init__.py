"""The HTTP face: OpenAI's API over JSON and server-sent events, and the WebSocket, on aiohttp.

A request comes in through `wire`, is checked by `requests`, handled in `routes` with what `access` allows,
and goes back as `answers`; `telemetry` remembers it. What they share is the `Service`.
"""
