"""Defects in the reading of bodies and keys: what should be refused is a crash, or is taken."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import replace

from realm_mocks.server.errors import ApiError
from realm_mocks.server.replies import Reply
from realm_mocks.server.variation import Variation, bearer


def _fault(because: str) -> ApiError:
    return ApiError(500, because, type="server_error")


def _fatal_where(what: Callable[[bytes], bool], because: str) -> Callable[[bytes], bytes]:
    """A hook on bodies: some of them are a server error."""

    def body(raw: bytes) -> bytes:
        if what(raw):
            raise _fault(because)
        return raw

    return body


def _no_utf8(raw: bytes) -> bool:
    try:
        raw.decode()
    except UnicodeDecodeError:
        return True
    return False


def _nan_taken(raw: bytes) -> bytes:
    return raw.replace(b"NaN", b"1")


def _no_object_is_fatal(raw: bytes) -> bytes:
    """What is no object is indexed like one."""
    try:
        value = json.loads(raw or b"null")
    except (ValueError, RecursionError):
        return raw
    if not isinstance(value, dict):
        raise _fault("'NoneType' object is not subscriptable")
    return raw


def _too_large_is_fatal(_: str, reply: Reply) -> Reply:
    return replace(reply, status=500) if reply.status == 413 else reply


def _key_is_fatal(header: str | None, key: str) -> bool:
    try:
        (header or "").encode("ascii")
    except UnicodeEncodeError:
        raise _fault("'ascii' codec can't encode characters") from None
    return bearer(header, key)


def _compressed(_: str, reply: Reply) -> Reply:
    if reply.content_type != "application/json" or reply.status != 200:
        return reply
    headers = {**reply.headers, "Content-Encoding": "gzip"}
    return replace(reply, body=gzip.compress(reply.payload()), headers=headers)


def _without(status: int) -> Callable[[str, Reply], Reply]:
    """Replies of this status have no headers of their own."""

    def reply_hook(_: str, reply: Reply) -> Reply:
        return replace(reply, headers={}) if reply.status == status else reply

    return reply_hook


def _charset_as_coding(_: str, reply: Reply) -> Reply:
    return replace(reply, headers={**reply.headers, "Content-Encoding": "utf-8"})


def _charset(_: str, reply: Reply) -> Reply:
    kind = reply.content_type.partition(";")[0]
    return replace(reply, content_type=f"{kind}; charset=iso-8859-1")


def _marked(_: str, reply: Reply) -> Reply:
    json_sent = reply.content_type == "application/json"
    return replace(reply, body=b"\xef\xbb\xbf" + reply.payload()) if json_sent else reply


def _one_more(_: str, reply: Reply) -> Reply:
    """The length of a refusal counts a byte that is not there."""
    if reply.status != 405:
        return reply
    headers = {**reply.headers, "Content-Length": str(len(reply.payload()) + 1)}
    return replace(reply, headers=headers)


DEFECTS = (
    Variation("byte-order-mark-sent", "JSON begins with a byte order mark", "RFC 8259 8.1", reply=_marked),
    Variation("charset-latin1", "replies are labelled ISO-8859-1", "requests' decoding", reply=_charset),
    Variation("length-one-more", "the length of a 405 is one too many", "RFC 9112 6.3", reply=_one_more),
    Variation("gzip-unasked", "JSON is compressed for everybody", "RFC 9110 12.5.3", reply=_compressed),
    Variation(
        "charset-as-coding",
        "the charset stands in Content-Encoding",
        "RFC 9110 8.4.1: utf-8 is no coding",
        reply=_charset_as_coding,
    ),
    Variation("no-allow", "a 405 has no Allow", "RFC 9110 15.5.6", reply=_without(405)),
    Variation("no-www-authenticate", "a 401 says nothing of keys", "RFC 9110 15.5.2", reply=_without(401)),
    Variation(
        "deep-json-500",
        "deep JSON is a server error",
        "CPython's RecursionError",
        body=_fatal_where(lambda raw: raw.count(b"[") > 900, "maximum recursion depth exceeded"),
    ),
    Variation("nan-taken", "NaN is taken for a number", "CPython's json", body=_nan_taken),
    Variation(
        "huge-float-500",
        "a number past all bounds is a server error",
        "CPython's OverflowError",
        body=_fatal_where(lambda raw: b"1e400" in raw, "cannot convert float infinity to integer"),
    ),
    Variation(
        "huge-integer-500",
        "an integer of thousands of digits is a server error",
        "CPython's limit of 4300 digits",
        body=_fatal_where(lambda raw: b"7" * 4301 in raw, "Exceeds the limit (4300 digits)"),
    ),
    Variation(
        "not-utf8-500",
        "a body that is not UTF-8 is a server error",
        "CPython's UnicodeDecodeError",
        body=_fatal_where(_no_utf8, "'utf-8' codec can't decode byte"),
    ),
    Variation(
        "byte-order-mark-500",
        "a byte order mark is a server error",
        "CPython's json",
        body=_fatal_where(lambda raw: raw.startswith(b"\xef\xbb\xbf"), "Unexpected UTF-8 BOM"),
    ),
    Variation(
        "no-object-500", "a body without an object is a server error", "sglang#3579", body=_no_object_is_fatal
    ),
    Variation(
        "bomb-500",
        "a large body after decompression is a server error",
        "CWE-409",
        reply=_too_large_is_fatal,
    ),
    Variation(
        "key-bytes-500", "a key with bytes is a server error", "CPython's str", authorized=_key_is_fatal
    ),
    Variation(
        "old-status-line",
        "what is no request is answered in HTTP/1.0",
        "aiohttp's ERROR message",
        answers_in_1_0=True,
    ),
    Variation(
        "few-workers", "each connection holds one of sixteen workers", "CWE-400, Slowloris", workers=16
    ),
    Variation(
        "workers-lost",
        "a client that goes in the middle of a request leaves its worker waiting for the rest",
        "CWE-772; servers without a timeout for bodies",
        workers=64,
        workers_lost=True,
    ),
)
