"""What both guests promise: `--realm-guest PATH` puts these questions to another one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from realm_abi.errors import ErrorCode, FinishReason
from realm_abi.sandbox import GuestModule, Limits
from realm_mocks.host import (
    Action,
    Cancel,
    Computed,
    Delay,
    Fault,
    Fixed,
    Grow,
    Hashed,
    MockHost,
    Overlong,
    Poison,
    Return,
    Run,
    ShortWrite,
    Stop,
    Trap,
    default_vocabulary,
)
from realm_mocks.host.findings import RECOVERABLE

VOCABULARY = default_vocabulary()
PLAIN = st.integers(0, VOCABULARY.vocab_size - len(VOCABULARY.special) - 1)
EMIT = {1: "realm_stream_token", 2: "realm_emit"}
FREE = "realm_session_free"
PROMPT = "a prompt of some length"
SCRIPT = "hello wörld"

drawn = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.differing_executors])


def run_with(guest: GuestModule, *faults: Fault, script: Any = SCRIPT, **options: Any) -> Run:
    return MockHost(guest, script, faults=faults, canaries="memory").generate(PROMPT, **options)


def function_calls(guest: GuestModule) -> list[tuple[str, int]]:
    """The first, a middle and the last call of every function in an ordinary run."""
    counts = run_with(guest).check().trace.counts
    return [(name, nth) for name, count in counts.items() for nth in sorted({1, (count + 1) // 2, count})]


@drawn
@given(script=st.lists(PLAIN, max_size=20), limit=st.integers(0, 25))
def test_streamed_pieces_are_whole_characters_and_join_to_the_text(
    guest_module: GuestModule, script: list[int], limit: int
) -> None:
    run = run_with(guest_module, script=script, max_tokens=limit).check()
    assert run.tokens == tuple(script[:limit])
    assert run.text == VOCABULARY.decode(script[:limit]).decode(errors="replace")
    texts = run.trace.of(EMIT[guest_module.version])
    assert "".join(call.text or "" for call in texts) == run.text


def test_characters_in_parts_are_held_back_until_they_are_whole(guest_module: GuestModule) -> None:
    run = run_with(
        guest_module, script=[b"\xf0\x9f", b"\xa6\x80", b"\xe6\x97", b"\xa5\xe6", b"\x9c\xac"], max_tokens=5
    )
    assert run.check().texts == ("", "🦀", "", "日", "本")


def test_half_a_character_at_the_end_is_not_lost(guest_module: GuestModule) -> None:
    for limit in (1, 9):
        assert run_with(guest_module, script=[b"x\xc3"], max_tokens=limit).check().text == "x\ufffd"


def test_an_eos_first_is_an_empty_text(guest_module: GuestModule) -> None:
    run = run_with(guest_module, script="").check()
    assert (run.text, run.tokens) == ("", ())


@pytest.mark.parametrize("limit", [0, 1])
def test_the_smallest_limits(guest_module: GuestModule, limit: int) -> None:
    run = run_with(guest_module, max_tokens=limit).check()
    assert len(run.tokens) == limit
    if guest_module.version == 2:
        assert run.reason is FinishReason.max_tokens


def test_a_prompt_of_a_megabyte(guest_module: GuestModule) -> None:
    run = MockHost(guest_module, SCRIPT, context_length=4096).generate("x" * (1 << 20))
    # A v1 guest has no way to name an error that no host call answered.
    run.check(error=ErrorCode.internal if guest_module.version == 1 else ErrorCode.context_full)
    assert len(run.trace) <= 4


def test_equal_logits_go_to_the_lowest_id(guest_module: GuestModule) -> None:
    run = run_with(guest_module, script=[(70, 66, 90), (66, 67)]).check()
    assert run.tokens == (66, 66)


def test_the_repetition_penalty_turns_a_close_race(guest_module: GuestModule) -> None:
    values = np.full(VOCABULARY.vocab_size, -9.0, dtype=np.float32)
    values[[65, 66]] = 2.0, 1.9
    run = run_with(guest_module, script=Fixed(values), repetition_penalty=1.5, max_tokens=3)
    assert run.check().tokens[:2] == (65, 66)


@pytest.mark.parametrize("code", list(ErrorCode))
def test_an_error_of_any_call_is_the_answer_and_nothing_follows(
    guest_module: GuestModule, code: ErrorCode
) -> None:
    for function, nth in function_calls(guest_module):
        if (function, code) in RECOVERABLE:
            continue
        run = run_with(guest_module, Fault(Return(code), function, nth)).check(error=code)
        after = run.trace.names[[call.result == code for call in run.trace].index(True) + 1 :]
        assert set(after) <= {FREE}


def test_a_buffer_too_small_is_asked_again_or_is_the_answer(guest_module: GuestModule) -> None:
    whole = run_with(guest_module).check()
    for function, code in RECOVERABLE:
        if function in whole.trace.counts:
            run = run_with(guest_module, Fault(Return(code), function))
            assert run.error is code or run.text == whole.text
            run.check(error=run.error)


@pytest.mark.parametrize("nth", [1, 2, 5])
def test_asked_to_stop_it_stops_at_once(guest_module: GuestModule, nth: int) -> None:
    emit = EMIT[guest_module.version]
    run = run_with(guest_module, Fault(Stop(), emit, nth)).check()
    assert run.trace.counts[emit] == nth
    last = len(run.trace) - run.trace.names[::-1].index(emit)
    assert set(run.trace.names[last:]) <= {FREE}
    if guest_module.version == 2:
        assert run.reason is FinishReason.stopped


def test_cancelled_at_any_call_it_ends_there(guest_module: GuestModule) -> None:
    calls = len(run_with(guest_module).check().trace)
    for nth in range(1, calls + 1 - (guest_module.version == 2)):
        run = run_with(guest_module, Fault(Cancel(), nth=nth)).check(error=ErrorCode.cancelled)
        assert [name for name in run.trace.names[nth:] if name != FREE] == []


def test_a_trap_in_a_call_harms_only_its_run(guest_module: GuestModule) -> None:
    host = MockHost(guest_module, SCRIPT, faults=[Fault(Trap("on purpose"), nth=6)])
    run = host.generate(PROMPT)
    assert run.fault is not None
    assert (run.fault.kind, run.fault.message) == ("trap", "on purpose")
    assert run.trace[-1].result is None
    assert list(host.sessions) == []


def test_memory_that_grows_between_calls_changes_nothing(guest_module: GuestModule) -> None:
    before = run_with(guest_module).check()
    grown = run_with(guest_module, *[Fault(Grow(1), nth=nth) for nth in range(1, 12)]).check()
    assert grown.trace.as_dicts(times=False) != before.trace.as_dicts(times=False)
    assert (grown.text, grown.memory_bytes) == (before.text, before.memory_bytes + 11 * 65536)


def test_a_slow_host_is_not_the_guests_time(guest_module: GuestModule) -> None:
    limits = Limits(guest_seconds=0.5)
    host = MockHost(guest_module, SCRIPT, faults=[Fault(Delay(0.8), nth=4)], limits=limits)
    run = host.generate(PROMPT).check()
    assert max(call.host_ns for call in run.trace) >= 800_000_000


ACTIONS: st.SearchStrategy[Action] = st.one_of(
    st.builds(Return, st.integers(-14, 4000)),
    st.builds(ShortWrite, st.integers(0, 300), st.booleans()),
    st.builds(Overlong, st.integers(1, 2**31 - 1)),
    st.builds(Poison, st.sampled_from(["nan", "inf", "-inf"]), st.none() | st.just((5, 6))),
    st.builds(Grow, st.integers(0, 3)),
    st.sampled_from([Cancel(), Stop(), Trap()]),
)
FAULTS = st.builds(Fault, ACTIONS, nth=st.integers(1, 30))


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
@given(
    faults=st.lists(st.builds(Fault, ACTIONS, nth=st.integers(1, 30)), min_size=1, max_size=3),
    seed=st.integers(0, 9),
)
def test_whatever_the_host_does_the_guest_ends_and_minds_its_manners(
    guest_module: GuestModule, faults: list[Fault], seed: int
) -> None:
    limits = Limits(guest_seconds=2.0, memory_bytes=16 << 20)
    host = MockHost(guest_module, SCRIPT, faults=faults, limits=limits, canaries="memory")
    run = host.generate(PROMPT, max_tokens=12, temperature=0.5, seed=seed)
    assert run.stains == ()
    assert run.rules - {"text"} == set()
    assert len(run.trace) < 200
    trapped = any(isinstance(fault.action, Trap) for fault in run.faults_met)
    assert run.fault is None or trapped


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_still_give_tokens_of_the_vocabulary(
    guest_module: GuestModule, value: Any, temperature: float
) -> None:
    forward = {1: "realm_compute_logits", 2: "realm_forward"}[guest_module.version]
    for tokens in (None, (0,), (5, 296)):
        faults = [Fault(Poison(value, tokens), forward, nth) for nth in range(1, 10)]
        run = run_with(guest_module, *faults, temperature=temperature, max_tokens=6)
        assert run.fault is None
        assert "refused" not in run.rules
        if value == "-inf" and tokens:
            assert not set(tokens) & set(run.tokens)


def test_a_sample_depends_on_seed_and_position_alone(guest_module: GuestModule) -> None:
    script = Fixed(np.zeros(VOCABULARY.vocab_size, dtype=np.float32))
    options: Any = {"temperature": 1.0, "max_tokens": 20, "stop_tokens": (), "top_k": 0, "top_p": 1.0}
    if guest_module.version == 2:
        options["ignore_eos"] = True
    runs = [run_with(guest_module, script=script, seed=seed, **options) for seed in (1, 1, *range(2, 8))]
    traces = [run.trace.as_dicts(times=False) for run in runs]
    assert traces[0] == traces[1]
    assert len({run.text for run in runs}) == 7


def test_instances_and_runs_share_nothing(guest_module: GuestModule) -> None:
    host = MockHost(guest_module, Hashed(1))
    options: Any = {"temperature": 0.8, "seed": 5, "max_tokens": 6}
    fresh = [host.generate(prompt, **options) for prompt in ("one", "two")]
    with host.instance() as left, host.instance() as right:
        for instance in (left, right, left):
            for prompt, expected in zip(("one", "two"), fresh, strict=True):
                assert instance.generate(prompt, **options).check().texts == expected.texts


def test_samples_follow_the_distribution(guest_module: GuestModule) -> None:
    rng = np.random.default_rng(7)
    logits = rng.normal(0, 1.0, VOCABULARY.vocab_size).astype(np.float32)
    likely = np.argsort(-logits)[:12]
    host = MockHost(guest_module, Computed(lambda _: logits), canaries="off")
    options: Any = {"temperature": 0.7, "top_k": 12, "top_p": 1.0, "max_tokens": 400, "stop_tokens": (0,)}
    if guest_module.version == 2:
        options["ignore_eos"] = True
    drawn: list[int] = []
    for seed in range(4):
        drawn += host.generate("p", seed=seed, **options).tokens
    expected = np.exp(logits[likely].astype(np.float64) / 0.7)
    expected *= len(drawn) / expected.sum()
    counts = np.array([drawn.count(int(token)) for token in likely])
    assert counts.sum() == len(drawn)
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert chi_square < 31.3  # 11 degrees of freedom, p = 0.001; the seeds are fixed
