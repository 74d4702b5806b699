"""Defects below HTTP: what a naive parser makes of bytes that nobody should send."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from realm_mocks.server.errors import ApiError
from realm_mocks.server.variation import Variation

_LENGTH = re.compile(rb"\r\nContent-Length: *([^\r]*)")
_CODING = re.compile(rb"\r\nTransfer-Encoding: *([^\r]*)")
_LAX_DIGITS = re.compile(rb"[+-]?(?:0x)?[0-9a-f]+")


def _in_head(bend: Callable[[bytes], bytes]) -> Callable[[bytes], bytes]:
    """A hook on the head that a segment begins with."""

    def incoming(data: bytes) -> bytes:
        head, blank, rest = data.partition(b"\r\n\r\n")
        return bend(head) + blank + rest if b" HTTP/1." in head.partition(b"\r\n")[0] else data

    return incoming


def _first_length(head: bytes) -> bytes:
    first = _LENGTH.search(head)
    return head if first is None else head[: first.end()] + _LENGTH.sub(b"", head[first.end() :])


def _length_wins(head: bytes) -> bytes:
    return _CODING.sub(b"", head) if _LENGTH.search(head) else head


def _chunked_anywhere(head: bytes) -> bytes:
    return _CODING.sub(b"\r\nTransfer-Encoding: chunked", head)


def _silent_on_bad_chunks(data: bytes) -> bytes:
    return b"" if b"\r\n\r\nzz\r\n" in data else data


def _lax_length(data: bytes) -> bytes:
    """A length is what a lenient function makes of it; what is negative counts as nothing."""
    head, blank, body = data.partition(b"\r\n\r\n")
    found = _LENGTH.search(head)
    if found is None or not _LAX_DIGITS.fullmatch(found[1].lower()):
        return data
    size = max(0, int(found[1], 0))
    return _LENGTH.sub(b"\r\nContent-Length: %d" % size, head) + blank + body


def _spaced_colon(head: bytes) -> bytes:
    return re.sub(rb"(\r\n[\w-]+) +:", rb"\1:", head)


def _host_made_up(head: bytes) -> bytes:
    return head if b"\r\nHost:" in head else head + b"\r\nHost: localhost"


def _first_host(head: bytes) -> bytes:
    at = head.find(b"\r\nHost:") + 2
    return head[:at] + re.sub(rb"\r\nHost:[^\r]*", b"", head[at:])


def _silent_on_no_http(data: bytes) -> bytes:
    return data if b"HTTP/1." in data else b""


def _fault_where(what: Callable[[str], bool]) -> Callable[[ApiError, BaseException], ApiError]:
    """A server error for the requests whose fault `what` is."""

    def unparsed(error: ApiError, said: BaseException) -> ApiError:
        return replace(error, status=500) if what(str(said)) else error

    return unparsed


def _encoding_ignored(head: bytes) -> bytes:
    return re.sub(rb"\r\nContent-Encoding: realm", b"", head)


def _path_is_fatal(head: bytes) -> bytes:
    """A strange path ends a worker, and the connection with it says nothing any more."""
    target = head.split(b" ")[1]
    return b"" if b".." in target or b"%00" in target else head


def _chunks_unread(head: bytes) -> bytes:
    return _CODING.sub(b"\r\nConnection: close", head)


def _old_is_new(head: bytes) -> bytes:
    return head.replace(b" HTTP/1.0\r\n", b" HTTP/1.1\r\n", 1)


def _head_is_get(head: bytes) -> bytes:
    return head.replace(b"HEAD ", b"GET ", 1) if head.startswith(b"HEAD ") else head


def _no_absolute(head: bytes) -> bytes:
    return re.sub(rb"^GET http://", b"GET /http/", head)


def _one_a_segment(data: bytes) -> bytes:
    """What follows a first request without a body in the same segment is lost."""
    first, blank, rest = data.partition(b"\r\n\r\n")
    return first + blank if first.startswith(b"GET ") and rest.startswith(b"GET ") else data


def _body_too_long(head: bytes) -> bytes:
    """Of a request that goes nowhere five bytes too many are read."""
    found = _LENGTH.search(head)
    if found is None or b"/realm-no-such-route " not in head:
        return head
    return _LENGTH.sub(b"\r\nContent-Length: %d" % (int(found[1]) + 5), head)


def _unheard(head: bytes) -> bytes:
    return re.sub(rb"\r\nExpect:[^\r]*", b"", head)


def _blank_refused(data: bytes) -> bytes:
    return b"?" + data if data.startswith(b"\r\n") else data


def _waits_for_it(head: bytes) -> bytes:
    return b"" if b"Content-Length: 1000000000000" in head else head


def _door(slug: str, sentence: str, bend: Callable[[bytes], bytes], source: str) -> Variation:
    return Variation(slug, sentence, source, incoming=bend)


DEFECTS = (
    _door("length-first-wins", "of two lengths the first counts", _in_head(_first_length), "CWE-444"),
    _door("length-over-chunks", "a length counts more than chunks", _in_head(_length_wins), "CWE-444"),
    _door("chunked-anywhere", "chunked need not be the last coding", _in_head(_chunked_anywhere), "CWE-444"),
    _door("bad-chunk-hangs", "a chunk without a size is waited for", _silent_on_bad_chunks, "CWE-835"),
    _door("lax-length", "a length may have a sign or be hexadecimal", _lax_length, "CWE-444"),
    _door("space-before-colon", "a space before the colon is taken", _in_head(_spaced_colon), "CWE-444"),
    _door("no-host-needed", "HTTP/1.1 without Host is answered", _in_head(_host_made_up), "RFC 9112 3.2"),
    _door("first-host-wins", "of two Hosts the first counts", _in_head(_first_host), "RFC 9112 3.2"),
    _door("no-http-hangs", "bytes that are no HTTP are waited on", _silent_on_no_http, "CWE-835"),
    _door("encoding-ignored", "any Content-Encoding is taken", _in_head(_encoding_ignored), "RFC 9110 8.4"),
    _door("strange-path-hangs", "dots in a path end a worker", _in_head(_path_is_fatal), "CWE-22"),
    _door("chunks-unread", "a body in chunks is not read", _in_head(_chunks_unread), "RFC 9112 7.1"),
    _door("http10-chunks", "HTTP/1.0 clients get chunks", _in_head(_old_is_new), "RFC 9112 6.1"),
    _door("head-with-body", "the reply to HEAD has a body", _in_head(_head_is_get), "RFC 9110 9.3.2"),
    _door("absolute-404", "a whole URL as target is not found", _in_head(_no_absolute), "RFC 9112 3.2.2"),
    _door("pipelined-lost", "one request is read out of a segment", _one_a_segment, "realm-defects 30"),
    _door("body-too-long", "a refused body takes the next head", _in_head(_body_too_long), "RFC 9112 9.3"),
    _door("never-continues", "Expect: 100-continue is not heard", _in_head(_unheard), "RFC 9110 10.1.1"),
    _door("blank-line-refused", "an empty line before a request is fatal", _blank_refused, "RFC 9112 2.2"),
    _door("length-believed", "a claimed terabyte is waited for", _in_head(_waits_for_it), "RFC 9110 15.5.14"),
    Variation(
        "long-header-500",
        "a long header is a server error",
        "openai-python retries 5xx",
        unparsed=_fault_where(lambda said: "more than" in said and "'/" not in said),
    ),
    Variation(
        "long-target-500",
        "a long target is a server error",
        "openai-python retries 5xx",
        unparsed=_fault_where(lambda said: "more than" in said and "b'/" in said),
    ),
    Variation(
        "many-headers-500",
        "many headers are a server error",
        "openai-python retries 5xx",
        unparsed=_fault_where(lambda said: "Too many" in said),
    ),
)
