"""What a client asks for reaches the guest, and what the guest says reaches the client."""

from __future__ import annotations

import struct
from typing import Any

from realm_abi.contract import load_contract
from realm_abi.errors import ErrorCode

from realm_harness.case import Broken, case, demand
from realm_harness.hostsuite.baseline import OUT, TEXT
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import PIECES, HostSubject

UNICODE = "grüße, 世界 🌍 e\u0301 end"
LONG = 20_000
STOPS = ("\u00a7\u00a7", "<<stop>>")
DEAF = "a parameter that does not reach the engine is ignored in silence"
LOST = "text that is cut, trimmed or changed on its way"
OFFSET, PRIME = 0xCBF29CE484222325, 0x100000001B3


def fnv(data: bytes) -> str:
    """The digest that the probe computes."""
    value = OFFSET
    for byte in data:
        value = (value ^ byte) * PRIME % (1 << 64)
    return f"{value:016x}"


def request_of(subject: HostSubject, version: int, **params: Any) -> tuple[dict[str, Any], tuple[int, ...]]:
    """The fields of GenRequest or GenOptions as the guest found them, and the probe's E, A, M, S and Q."""
    fields = load_contract().structs["GenOptions" if version == 1 else "GenRequest"]
    script = Script()
    told = script.do(f"peek Q {fields.size}")
    report = subject.run(version, script, **params)
    return dict(fields.unpack(report[told].data)), report.head


@case("HOST-REQUEST-001", clause_id="host.prompt", reason=LOST)
def the_prompt_arrives_byte_for_byte(subject: HostSubject) -> None:
    """A message is in the guest's prompt byte for byte, characters of all lengths included."""
    for version in subject.versions:
        script = Script(payload=UNICODE)
        told = script.do("text")
        entry = subject.run(version, script)[told]
        size, digest = len(UNICODE.encode()), fnv(UNICODE.encode())
        demand(
            (entry.result, entry.digests) == (size, (digest,)),
            f"of {UNICODE!r}, {size} bytes, {entry.result} others arrived",
        )


@case("HOST-REQUEST-002", clause_id="host.parameters", reason=DEAF)
def the_parameters_arrive(subject: HostSubject) -> None:
    """max_tokens, temperature, top_p and seed of a request are those that the guest is given."""
    wanted = {"max_tokens": PIECES - 3, "temperature": 0.625, "top_p": 0.75, "seed": 77}
    for version in subject.versions:
        found, _ = request_of(subject, version, **wanted)
        seen = {name: round(float(found[name]), 6) for name in wanted}
        demand(
            seen == {name: float(value) for name, value in wanted.items()},
            f"asked for {wanted}, the v{version} guest got {seen}",
        )


@case("HOST-REQUEST-003", clause_id="host.parameters", reason=DEAF)
def other_parameters_arrive_too(subject: HostSubject) -> None:
    """Two requests with different parameters give the guest different ones: none is fixed."""
    for version in subject.versions:
        one, _ = request_of(subject, version, temperature=1.5, top_p=0.5, seed=1)
        two, _ = request_of(subject, version, temperature=0.25, top_p=0.875, seed=2)
        for name in ("temperature", "top_p", "seed"):
            demand(one[name] != two[name], f"{name} is {one[name]} in the v{version} guest whatever is asked")


@case(
    "HOST-REQUEST-004",
    clause_id="host.parameters",
    reason="a stop string that is ignored runs into the next turn",
    versions=(2,),
)
def stop_strings_arrive(subject: HostSubject) -> None:
    """The stop strings of a request are in GenRequest."""
    fields = {field.name: field.offset for field in load_contract().structs["GenRequest"].fields}
    script = Script()
    count = script.do(f"load Q+{fields['stop_strings_count']}")
    refs = script.do(f"load Q+{fields['stop_strings_ptr']}")
    told = []
    for number in range(len(STOPS)):
        place = script.do(f"load R{refs}+{8 * number}")
        size = script.do(f"load R{refs}+{8 * number + 4}")
        told.append(script.do(f"peek R{place} R{size}"))
    report = subject.run(2, script, stop=list(STOPS))
    demand(report[count].result == len(STOPS), f"of {len(STOPS)} stop strings {report[count].result} arrived")
    seen = [report[number].data.decode("utf-8", "replace") for number in told]
    demand(seen == list(STOPS), f"the stop strings {STOPS} reached the guest as {seen}")


@case("HOST-REQUEST-005", clause_id="host.eos", reason="a text that runs on after its end")
def the_end_of_sequence_is_a_stop_token(subject: HostSubject) -> None:
    """The guest is told the model's end-of-sequence token: in stop_tokens or, v2, in ModelInfo."""
    for version in subject.versions:
        world = subject.world(version)
        found, _ = request_of(subject, version)
        told = found["stop_token_count" if version == 1 else "stop_tokens_count"]
        known = world.eos_token < world.vocab_size
        demand(told or known, f"the v{version} guest is told of no end-of-sequence token")


@case("HOST-REQUEST-006", clause_id="host.layout", reason="a guest reads what lies there, right or wrong")
def the_request_lies_well_in_memory(subject: HostSubject) -> None:
    """The request's struct is aligned and inside the memory, and its size and model are filled in."""
    for version in subject.versions:
        found, (memory, _, model, _, request) = request_of(subject, version)
        inside = 0 < request < memory and not request % 8
        demand(inside, f"the v{version} request is at {request} in a memory of {memory} bytes")
        demand(0 < model < 1 << 31, f"the model's handle is {model}")
        if version == 2:
            size = load_contract().structs["GenRequest"].size
            demand(found["size"] == size, f"GenRequest.size is {found['size']} instead of {size}")


@case("HOST-REQUEST-007", clause_id="host.text", reason=LOST)
def a_long_text_arrives_whole(subject: HostSubject) -> None:
    """Twenty thousand bytes that the guest hands on arrive, in order and once."""
    expected = "".join(str(i // 7 % 10) for i in range(LONG))
    for version in subject.versions:
        script = Script()
        script.do(f"say {LONG}")
        reply = subject.attempt(version, script)
        demand(not reply.failure, f"a text of {LONG} bytes ended with {reply.failure}")
        text = reply.text.partition("[probe")[0].strip()
        same = text == expected
        demand(
            same,
            f"v{version}: of {LONG} bytes {len(text)} arrived, the last of them {text[-20:]!r}",
        )


@case("HOST-REQUEST-008", clause_id="host.text", reason="a NUL ends a C string and no other text")
def a_nul_ends_nothing(subject: HostSubject) -> None:
    """A NUL and other control characters inside a text arrive, and what follows them too."""
    handed_on(subject, "a\0b\tc\x1fd")


@case("HOST-REQUEST-009", clause_id="host.text", reason=LOST)
def characters_arrive_as_they_are(subject: HostSubject) -> None:
    """Characters of all lengths, spaces at either end of a piece and quotes arrive as they are."""
    handed_on(subject, f' "{UNICODE}" \\ </end> ')


def handed_on(subject: HostSubject, text: str) -> None:
    """Broken unless a text that the guest hands on, between two marks of one piece each, arrives."""
    whole = f"<{text}>"
    for version in subject.versions:
        script, calls = Script(), []
        for piece in ("<", text, ">"):
            script.do(f"put {TEXT} {piece.encode().hex()}")
            size = len(piece.encode())
            if version == 2:
                calls.append(script.call("realm_emit", "S", 5, TEXT, size, 0, 0))
            else:
                calls.append(script.call("realm_stream_token", TEXT, size))
        reply = subject.attempt(version, script)
        demand(not reply.failure, f"handing on {whole!r} ended with {reply.failure}")
        if whole not in reply.text:
            raise Broken(f"a v{version} guest handed on {whole!r}; what arrived is {reply.text[:200]!r}")
        answers = [subject.read(script, reply)[number].result for number in calls]
        demand(not any(answers), f"handing on {whole!r} in three pieces answered {answers}")


@case(
    "HOST-REQUEST-010",
    clause_id="host.names",
    reason="a model's name with ../ in it reads outside of the folder",
    versions=(1,),
)
def a_name_is_no_path(subject: HostSubject) -> None:
    """Names with a path in them, empty ones and ones with a NUL are of no model."""
    name = subject.world(1).name
    paths = ("../{}", "./{}", "/{}", "..", ".", "", "{}\0", "{0}/../{0}", "a/b", "..\\{}", "%2e%2e/{}")
    names = [*(path.format(name) for path in paths), "/etc/passwd", "../../../../etc/passwd", "x" * 5000]
    script = Script()
    calls = []
    for tried in names:
        if len(tried) < 100:
            script.do(f"put {OUT} {tried.encode().hex()}")
        calls.append(script.call("realm_host_load_model_by_name", OUT, len(tried.encode())))
    report = subject.run(1, script)
    right = {ErrorCode.not_found, ErrorCode.permission_denied, ErrorCode.unsupported}
    for tried, number in zip(names, calls, strict=True):
        answer = report[number].result
        demand(
            answer in right or len(tried) > 100,
            f"the model name {tried!r} answered {answer} instead of not_found",
        )
    subject.still_well(1, "names of models that are paths")


@case(
    "HOST-REQUEST-011",
    clause_id="host.gguf",
    reason="a length in a file's header goes straight into an allocation",
    versions=(1,),
)
def a_hostile_file_is_refused(subject: HostSubject) -> None:
    """Forty bytes that claim to be a GGUF file of 2^62 tensors are refused, without the memory for them."""
    huge = [
        b"GGUF" + struct.pack("<IQQ", 3, 1 << 62, 1 << 62) + bytes(16),
        b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, (1 << 63) + 7) + bytes(8),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + struct.pack("<Q", (1 << 40)) + bytes(8),
        b"GGUF",
        b"PK\3\4" + bytes(60),
    ]
    script = Script()
    calls = []
    for data in huge:
        script.do(f"put {OUT} {data.hex()}")
        calls.append(script.call("realm_store_model", OUT, len(data), 0))
    with subject.host(1).watch_memory() as watch:
        report = subject.run(1, script)
    for data, number in zip(huge, calls, strict=True):
        answer = report[number].result
        fine = answer < 0 and answer != ErrorCode.internal
        demand(
            fine, f"a file of {len(data)} bytes that begins {data[:12]!r} answered {answer}: it is no model"
        )
    took = watch.grown or 0
    demand(took < subject.settings.memory_bytes, f"files of a few bytes took {took >> 20} MiB")
    subject.still_well(1, "files that are no models")
