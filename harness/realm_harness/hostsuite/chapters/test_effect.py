"""What calls do to a context, and what failed ones do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from realm_harness.case import Broken, case, demand
from realm_harness.hostsuite.baseline import HIDDEN, IDS, OUT, TEXT, TOKENS, WORDS, World, put_ids
from realm_harness.hostsuite.report import Report
from realm_harness.hostsuite.script import Script
from realm_harness.hostsuite.subject import HostSubject, all_well, forward, layerwise

SEEN = 64
"""Logits that are looked at one by one."""

NEAR = 0.02
"""Of their spread: how far logits of other chunks may differ; wrong ones differ by all of it."""

LOST = "text that depends on how it was cut, or on a call that failed"


def told(script: Script) -> int:
    """Asks for the first logits at OUT."""
    return script.do(f"peek {OUT} {4 * SEEN}")


def logits(report: Report, number: int) -> NDArray[np.float32]:
    """The logits that were asked for."""
    return np.frombuffer(report[number].data, "<f4")


def near(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Whether two rows are the same but for rounding."""
    spread = float(np.std(one)) or 1.0
    return bool(np.isfinite(one).all() and np.abs(one - other).max() <= NEAR * spread)


def fed(script: Script, version: int, world: World, chunks: list[int], session: str = "") -> int:
    """Feeds tokens from IDS on in chunks; where the last logits are told."""
    done = 0
    for count in chunks:
        if version == 2:
            forward(script, world, session, f"{IDS}+{4 * done}", count)
        else:
            layerwise(script, world, count, done)
        done += count
    return told(script)


@case("HOST-EFFECT-001", clause_id="host.chunks", reason=LOST)
def chunks_do_not_matter(subject: HostSubject) -> None:
    """A text fed at once, in chunks or token by token gives the same logits but for rounding."""
    for version in subject.versions:
        rows = {}
        for chunks in ([6], [3, 3], [1] * 6, [5, 1]):
            script, world = Script(), subject.world(version)
            put_ids(script, world, "5 9 7 12 11 6")
            session = f"R{script.call('realm_session_open', 'M')}" if version == 2 else ""
            last = fed(script, version, world, chunks, session)
            rows[str(chunks)] = logits(subject.run(version, script), last)
        whole = rows.pop("[6]")
        for cut, row in rows.items():
            demand(
                near(whole, row),
                f"v{version}: six tokens in chunks of {cut} give {row[:4]}..., at once {whole[:4]}...",
            )


@case(
    "HOST-EFFECT-002",
    clause_id="host.every-token",
    reason="a decode that attends only to itself writes nonsense",
)
def every_token_matters(subject: HostSubject) -> None:
    """The logits change with each token of the text, and with their order."""
    for version in subject.versions:
        seen: dict[bytes, str] = {}
        for tokens in ("5 6 7 8", "9 6 7 8", "5 9 7 8", "6 5 7 8"):
            script, world = Script(), subject.world(version)
            put_ids(script, world, tokens)
            session = f"R{script.call('realm_session_open', 'M')}" if version == 2 else ""
            last = fed(script, version, world, [3, 1], session)
            row = subject.run(version, script)[last].data
            if row in seen:
                raise Broken(f"v{version}: the tokens {tokens} and {seen[row]} give the same logits")
            seen[row] = tokens


@case("HOST-EFFECT-003", clause_id="host.failure-changes-nothing", reason=LOST, versions=(2,))
def a_failed_forward_leaves_the_session(subject: HostSubject) -> None:
    """After forwards that fail in every way a session gives the logits of one that never saw them."""
    world = subject.world(2)
    script = Script()
    put_ids(script, world, "5 6 7 8 9")
    script.do(f"word {IDS}+32 5 6 {world.vocab_size}")
    tried, plain = (f"R{script.call('realm_session_open', 'M')}" for _ in range(2))
    for session in (tried, plain):
        forward(script, world, session, IDS, 3)
    failing = [
        script.call("realm_forward", tried, f"{IDS}+32", 3, OUT, 1, world.vocab_size),
        script.call("realm_forward", tried, IDS, 2, OUT, 1, world.vocab_size - 1),
        script.call("realm_forward", tried, "E-4", 2, OUT, 1, world.vocab_size),
        script.call("realm_forward", tried, IDS, 2, "E-4", 1, world.vocab_size),
        script.call("realm_forward", tried, IDS, 1, OUT, 2, 2 * world.vocab_size),
        script.call("realm_session_truncate", tried, 4),
    ]
    after = [forward(script, world, session, f"{IDS}+12", 1) for session in (tried, plain)]
    report = subject.run(2, script)
    all_well(report, failing)
    same = report[after[0]].digests == report[after[1]].digests
    demand(same, "a session gives other logits after calls that failed: one of them had an effect")


@case("HOST-EFFECT-004", clause_id="host.failure-changes-nothing", reason=LOST, versions=(1,))
def a_failed_layer_leaves_the_cache(subject: HostSubject) -> None:
    """After layers that fail in every way a guest gets the logits of one that never made the calls."""
    world = subject.world(1)
    digests = []
    for bad in (False, True):
        script = Script()
        put_ids(script, world, "5 6 7 8")
        layerwise(script, world, 3, 0)
        failing = []
        if bad:
            wide = world.hidden_size
            failing = [
                script.call("realm_forward_layer", "M", 0, HIDDEN, wide, 3, "E-4"),
                script.call("realm_forward_layer", "M", world.num_layers, HIDDEN, wide, 3, OUT),
                script.call("realm_forward_layer", "M", 0, HIDDEN, wide - 1, 3, OUT),
                script.call("realm_forward_layer", "M", 0, HIDDEN, wide, 9, OUT),
                script.call("realm_forward_layer", "M+1000", 0, HIDDEN, wide, 3, OUT),
            ]
        last = layerwise(script, world, 1, 3)
        report = subject.run(1, script)
        all_well(report, failing)
        digests.append(report[last].digests)
    demand(
        digests[0] == digests[1],
        "a guest gets other logits after layers that failed: one of them had an effect",
    )


@case(
    "HOST-EFFECT-005",
    clause_id="host.truncate",
    reason="a prompt that is cut back and continued is another prompt",
    versions=(2,),
)
def truncate_forgets(subject: HostSubject) -> None:
    """A session that is cut back gives the logits of one that never went further."""
    world = subject.world(2)
    script = Script()
    put_ids(script, world, "5 6 7 8 9 8")
    cut, plain = (f"R{script.call('realm_session_open', 'M')}" for _ in range(2))
    for session in (cut, plain):
        forward(script, world, session, IDS, 2)
    forward(script, world, cut, f"{IDS}+16", 2)
    shortened = script.call("realm_session_truncate", cut, 2)
    after = [forward(script, world, session, f"{IDS}+8", 2) for session in (cut, plain)]
    report = subject.run(2, script)
    demand(report[shortened].result == 0, f"realm_session_truncate answered {report[shortened].result}")
    same = report[after[0]].digests == report[after[1]].digests
    demand(same, "after realm_session_truncate the tokens that were cut off still have an effect")


@case(
    "HOST-EFFECT-006",
    clause_id="host.fork",
    reason="two continuations of one prompt write into each other",
    versions=(2,),
)
def a_fork_is_a_copy(subject: HostSubject) -> None:
    """A fork gives what its original gives, and neither sees what the other is fed."""
    world = subject.world(2)
    script = Script()
    put_ids(script, world, "5 6 7 8 9 8")
    original = f"R{script.call('realm_session_open', 'M')}"
    forward(script, world, original, IDS, 2)
    copied = script.call("realm_session_fork", original)
    forward(script, world, f"R{copied}", f"{IDS}+16", 2)
    one = forward(script, world, original, f"{IDS}+8", 2)
    again = script.call("realm_session_truncate", f"R{copied}", 2)
    other = forward(script, world, f"R{copied}", f"{IDS}+8", 2)
    report = subject.run(2, script)
    if report[copied].result == -12:
        return
    demand(
        report[copied].result > 0 and report[again].result == 0,
        f"realm_session_fork answered {report[copied].result}",
    )
    demand(report[one].digests == report[other].digests, "a fork and its original see what the other was fed")


@case(
    "HOST-EFFECT-007",
    clause_id="host.rows",
    reason="logits of the wrong position choose the wrong token",
    versions=(2,),
)
def rows_are_the_last_positions_in_order(subject: HostSubject) -> None:
    """The logits of several rows are those of the last positions, the last one last."""
    world = subject.world(2)
    script = Script()
    put_ids(script, world, "5 9 7 12")
    whole, steps = (f"R{script.call('realm_session_open', 'M')}" for _ in range(2))
    forward(script, world, whole, IDS, 4, rows=2)
    rows = [script.do(f"peek {OUT}+{4 * world.vocab_size * row} {4 * SEEN}") for row in (0, 1)]
    forward(script, world, steps, IDS, 3)
    singles = [told(script)]
    forward(script, world, steps, f"{IDS}+12", 1)
    singles.append(told(script))
    report = subject.run(2, script)
    for row, single in zip(rows, singles, strict=True):
        demand(
            near(logits(report, single), logits(report, row)),
            "rows of realm_forward are not those of the last positions",
        )


@case("HOST-EFFECT-008", clause_id="host.overlap", reason="a host that writes before it has read everything")
def overlapping_windows_are_read_first(subject: HostSubject) -> None:
    """A call whose output lies on its input answers what it answers elsewhere."""
    for version in subject.versions:
        script, world = Script(), subject.world(version)
        pairs = [
            overlapped(script, version, "encode", TEXT, 5, f"put {TEXT} {WORDS.encode().hex()}"),
            overlapped(
                script, version, "decode", IDS, len(TOKENS), f"word {IDS} {' '.join(map(str, TOKENS))}"
            ),
        ]
        report = subject.run(version, script)
        for apart, onto in pairs:
            told_it = f"{report[onto]} where they overlap, {report[apart]} where they do not"
            same = report[apart].result < 0 or report[apart].digests == report[onto].digests
            demand(same, f"{script.steps[onto].text} of model {world.name} answers {told_it}")


def overlapped(
    script: Script, version: int, verb: str, place: str, count: int, filling: str
) -> tuple[int, int]:
    """A call that encodes or decodes what lies at `place` to elsewhere, and one that does so onto it."""
    name = f"realm_{verb}_tokens" if version == 1 else f"realm_{verb}"
    flags = () if version == 1 else (0,)
    calls = []
    for out in (OUT, place):
        script.do(filling)
        window = f"{out} *{4 if verb == 'encode' else 1}"
        calls.append(script.call(name, "M", place, count, *flags, out, 88, out=[window]))
    return calls[0], calls[1]


@case(
    "HOST-EFFECT-009",
    clause_id="host.grown-memory",
    reason="a view of memory as it was before it grew is a dangling pointer",
)
def grown_memory_is_seen(subject: HostSubject) -> None:
    """Windows in pages that the guest has just grown are read and written; beyond them they are refused."""
    for version in subject.versions:
        script, calls, beyond = Script(), [], []
        name = "realm_model_info" if version == 2 else "realm_encode_tokens"
        for pages in (0, 1, 3, 1):
            script.do(f"grow {pages}")
            if version == 2:
                calls.append(script.call(name, "M", "E-24", 24, out=["E-24 *1"]))
                beyond.append(script.call(name, "M", "E-20", 24))
            else:
                script.do("put E-8 717e3f7a23")
                calls.append(script.call(name, "M", "E-8", 5, "E-128", 88, out=["E-128 *4"]))
                beyond.append(script.call(name, "M", "E-4", 5, "E-128", 88))
        report = subject.run(version, script)
        for number in calls:
            told_it = f"{name} in memory that was grown to {report.memory(number)} bytes: {report[number]}"
            demand(report[number].digests == report[calls[0]].digests and report[number].result > 0, told_it)
        for number in beyond:
            demand(
                report[number].result == -2,
                f"{name} beyond grown memory answered {report[number].result}, not out_of_bounds",
            )


@case(
    "HOST-EFFECT-010",
    clause_id="host.position",
    reason="a cache that only appends writes another text than was asked",
    versions=(1,),
)
def an_earlier_position_drops_what_followed(subject: HostSubject) -> None:
    """A layer that is fed an earlier position again gives the logits of a text that went there directly."""
    world = subject.world(1)
    ended = []
    for detour in (False, True):
        script = Script()
        put_ids(script, world, "5 6 7 8")
        layerwise(script, world, 2, 0)
        if detour:
            layerwise(script, world, 1, 2, ids=f"{IDS}+4")
        ended.append((script, layerwise(script, world, 2, 2)))
    reports = [subject.run(1, script) for script, _ in ended]
    for report in reports:
        all_well(report)
    plain, again = (report[last].digests for report, (_, last) in zip(reports, ended, strict=True))
    demand(plain == again, "a position that is fed again is appended instead of replacing what was there")
