"""Whether prompts and answers had the lengths that were drawn for them, by the server's own count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from realm_loadtests.records.records import Record


def lengths(records: Sequence[Record]) -> dict[str, Any] | None:
    """`prompts` that were drawn and counted, the share of `exact` ones and the `most_off` in tokens;
    `answers` that had a length drawn, and the share that reached it (`whole`). None if none was drawn.
    """
    drawn = [record for record in records if record.wanted_prompt_tokens is not None]
    if not drawn:
        return None
    off = [
        abs(record.prompt_tokens - record.wanted_prompt_tokens)
        for record in drawn
        if record.prompt_tokens is not None and record.wanted_prompt_tokens is not None
    ]
    ended = [record for record in drawn if record.wanted_tokens is not None and record.outcome == "completed"]
    whole = sum(record.tokens == record.wanted_tokens for record in ended)
    return {
        "prompts": len(off),
        "exact": round(off.count(0) / len(off), 6) if off else None,
        "most_off": max(off, default=None),
        "answers": len(ended),
        "whole": round(whole / len(ended), 6) if ended else None,
    }
