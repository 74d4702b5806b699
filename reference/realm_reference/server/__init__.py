"""The HTTP face: OpenAI's chat completions over JSON and server-sent events, on aiohttp."""
