"""Text from an unknown server made safe to show: every result passes here before it is written anywhere.

A server under test chooses much of what a report contains. Escaping for HTML is Jinja's work; what is left
are characters that no output may carry raw: control characters (a terminal obeys them, XML forbids them),
bidirectional overrides (they make text read as something else than it is, cf. CVE-2021-42574) and lone
surrogates (UTF-8 cannot encode them).
"""

from __future__ import annotations

import math
import unicodedata
from typing import Any

_KEPT = "\n\t"
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
# Joiners are format characters too, but emoji and several scripts are wrong without them.
_JOINERS = "\u200c\u200d"
REDACTED = "[api key]"
# Members whose strings are words of the result schemas, never text of the target.
_SCHEMA_WORDS = {"schema", "verdict", "level", "dir"}
_SHORT_SECRET = 8


def visible(text: str) -> str:
    r"""The text with every character that would act instead of show as its escape (`\x1b`, `\u202e`)."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(_show(char) for char in text)


def _show(char: str) -> str:
    if char in _KEPT or char in _JOINERS or unicodedata.category(char) not in _HIDDEN:
        return char
    code = ord(char)
    if char == "\r":
        return "\\r"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def one_line(text: str, limit: int = 200) -> str:
    """The text on one line, cut to `limit` characters, for a terminal or an attribute."""
    flat = " ".join(visible(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1].rstrip() + "…"


def clip(text: str, limit: int) -> str:
    """At most `limit` characters of a text, saying how many were left out."""
    if len(text) <= limit:
        return text
    return f"{text[:limit]}\n… {len(text) - limit:,} more characters, cut here"


def redact(text: str, secret: str | None) -> str:
    """The text without the secret; short secrets too, for a leak is worse than a hole in a sentence."""
    return text.replace(secret, REDACTED) if secret else text


def clean_tree(value: Any, secret: str | None = None, *, member: str = "") -> Any:
    """A JSON value with every string visible and redacted, and null for numbers that JSON cannot carry.

    `member` is the name under which the value stands: words of the schema itself are left alone, so that a
    secret like "ok" cannot make a result file unreadable.
    """
    if isinstance(value, str):
        return visible(value if member in _SCHEMA_WORDS else redact(value, secret))
    if isinstance(value, dict):
        return {
            _clean_name(name, secret): clean_tree(item, secret, member=name) for name, item in value.items()
        }
    if isinstance(value, list):
        return [clean_tree(item, secret, member=member) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _clean_name(name: str, secret: str | None) -> str:
    plain = name.isidentifier() and len(secret or "") < _SHORT_SECRET
    return visible(name if plain else redact(name, secret))
