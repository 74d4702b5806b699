"""Buckets, gates and the file of limits: against naive models, and its errors as a person reads them."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from realm_reference.tenants import Caller, Job, Lease, Outcome, Status, Timings
from realm_reference.tenants.admission import NO_LIMIT, Admission
from realm_reference.tenants.bucket import Bucket
from realm_reference.tenants.gate import DAY_SECONDS, Gate, Limit, Moment, Refused
from realm_reference.tenants.ledger import Ledger
from realm_reference.tenants.policy import Policies, Policy, PolicyError, load_policies

MINUTE = 60 * 10**9


class BucketMachine(RuleBasedStateMachine):
    """A bucket against exact fractions."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10**15
        self.rate, self.capacity = 7, 5
        self.bucket = Bucket(self.rate, self.capacity, self.now)
        self.level = Fraction(self.capacity)

    @rule(ns=st.one_of(st.integers(0, 10**6), st.integers(0, 3 * MINUTE)))
    def wait(self, ns: int) -> None:
        self.now += ns
        self.level = min(self.level + Fraction(ns * self.rate, MINUTE), Fraction(self.capacity))

    @rule(count=st.integers(-12, 12))
    def add(self, count: int) -> None:
        self.bucket.add(count, self.now)
        self.level = min(self.level + count, Fraction(self.capacity))

    @rule(rate=st.integers(1, 100), capacity=st.integers(1, 20))
    def resize(self, rate: int, capacity: int) -> None:
        self.bucket.resize(rate, capacity, self.now)
        self.rate, self.capacity = rate, capacity
        self.level = min(self.level, Fraction(capacity))

    @invariant()
    def agrees(self) -> None:
        assert self.bucket.level(self.now) == self.level.__floor__()

    @invariant()
    def waiting_is_as_long_as_it_says_and_not_longer(self) -> None:
        for count in range(1, self.capacity + 1):
            wait = self.bucket.wait(count, self.now)
            after = self.level + Fraction(wait * self.rate, MINUTE)
            assert after >= count
            assert wait == 0 or self.level + Fraction((wait - 1) * self.rate, MINUTE) < count


def test_the_bucket_is_exact() -> None:
    run_state_machine_as_test(BucketMachine, settings=settings(max_examples=60, deadline=None))


class GateMachine(RuleBasedStateMachine):
    """A gate with all limits against a list of what happened."""

    POLICY = Policy(
        requests_per_minute=6, requests_burst=4, tokens_per_minute=100, concurrency=3, tokens_per_day=400
    )

    def __init__(self) -> None:
        super().__init__()
        self.now = Moment(0, 0.0)
        self.gate = Gate(self.POLICY, self.now)
        self.running: list[tuple[int, int]] = []  # reserved tokens, the day that it came in
        self.used: list[tuple[int, int]] = []  # tokens, the day that it ended
        self.requests = Fraction(4)
        self.tokens = Fraction(100)

    @rule(seconds=st.one_of(st.integers(0, 30), st.integers(3600, 50000)))
    def wait(self, seconds: int) -> None:
        self.now = Moment(self.now.ns + seconds * 10**9, self.now.unix + seconds)
        self.requests = min(self.requests + Fraction(seconds * 6, 60), Fraction(4))
        self.tokens = min(self.tokens + Fraction(seconds * 100, 60), Fraction(100))

    @rule(tokens=st.integers(1, 180))
    def come(self, tokens: int) -> None:
        if (expected := self.expected(tokens)) is not None:
            with pytest.raises(Refused) as caught:
                self.gate.enter(tokens, self.now)
            assert caught.value.limit is expected
            assert caught.value.retry_seconds > 0
            return
        self.gate.enter(tokens, self.now)
        self.running.append((tokens, self.now.day))
        self.requests -= 1
        self.tokens -= min(tokens, 100)

    def expected(self, tokens: int) -> Limit | None:
        if len(self.running) >= 3:
            return Limit.CONCURRENCY
        if self.requests < 1:
            return Limit.REQUESTS
        if self.tokens < min(tokens, 100):
            return Limit.TOKENS
        today = sum(used for used, day in self.used if day == self.now.day)
        if today + sum(reserved for reserved, _ in self.running) + tokens > 400:
            return Limit.QUOTA
        return None

    @rule(share=st.floats(0, 1), data=st.data())
    def finish(self, share: float, data: st.DataObject) -> None:
        if self.running:
            reserved, _ = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            used = int(reserved * share)
            self.gate.leave(reserved, used, self.now)
            self.used.append((used, self.now.day))
            self.tokens = min(self.tokens + min(reserved, 100) - used, Fraction(100))

    @rule()
    def void(self) -> None:
        if self.running:
            reserved, _ = self.running.pop()
            self.gate.leave(reserved, None, self.now)
            self.tokens = min(self.tokens + min(reserved, 100), Fraction(100))
            self.requests = min(self.requests + 1, Fraction(4))

    @invariant()
    def what_is_left_is_true(self) -> None:
        left = {one.of: one for one in self.gate.left(self.now)}
        assert left["requests"].remaining == max(self.requests.__floor__(), 0)
        assert left["tokens"].remaining == max(self.tokens.__floor__(), 0)
        assert (left["requests"].limit, left["tokens"].limit) == (4, 100)


def test_the_gate_lets_in_exactly_what_the_limits_say() -> None:
    run_state_machine_as_test(
        GateMachine, settings=settings(max_examples=100, stateful_step_count=40, deadline=None)
    )


class Clock:
    """Moves when it is told to; starts at some noon."""

    def __init__(self) -> None:
        self.moment = Moment(5 * 10**12, 20000.5 * DAY_SECONDS)

    def __call__(self) -> Moment:
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment = Moment(self.moment.ns + int(seconds * 1e9), self.moment.unix + seconds)


ALICE, BOB = Caller("alice", "k1"), Caller("bob", "k2")


def job(id: str = "chatcmpl-1", tokens: int = 10, more: int = 20) -> Job:
    return Job(id, "req-1", "chat", "tiny", tokens, more)


def outcome(tokens: int = 10, more: int = 20) -> Outcome:
    return Outcome(tokens, more, Status.FINISHED, "stop", Timings(0.0, 0.1, 0.2))


def refusal(admission: Admission, caller: Caller, of: Job) -> Refused:
    with pytest.raises(Refused) as caught:
        admission.admit(caller, of)
    return caught.value


def test_one_tenants_limits_are_not_anothers() -> None:
    admission = Admission(Policies(Policy(), {"alice": Policy(concurrency=1)}), clock=Clock())
    lease = admission.admit(ALICE, job())
    assert refusal(admission, ALICE, job()).limit is Limit.CONCURRENCY
    admission.admit(BOB, job())
    admission.admit(BOB, job())
    lease.settle(outcome())
    admission.admit(ALICE, job())


def test_a_lease_gives_back_once() -> None:
    admission = Admission(Policies(Policy(concurrency=2)), clock=Clock())
    lease: Lease = admission.admit(ALICE, job())
    admission.admit(ALICE, job())
    lease.settle(outcome())
    lease.settle(outcome())
    lease.void()
    admission.admit(ALICE, job())
    assert refusal(admission, ALICE, job()).limit is Limit.CONCURRENCY


def test_other_limits_hold_at_once_and_forget_nothing() -> None:
    admission = Admission(Policies(Policy(concurrency=1)), clock=Clock())
    admission.admit(ALICE, job())
    admission.use(Policies(Policy(concurrency=2, context=99)))
    admission.admit(ALICE, job())
    assert refusal(admission, ALICE, job()).limit is Limit.CONCURRENCY
    assert admission.context_cap("alice") == 99
    admission.use(Policies())
    admission.admit(ALICE, job())
    assert admission.context_cap("alice") == NO_LIMIT


def test_a_full_bucket_lets_one_large_request_in_and_then_it_is_paid_for() -> None:
    clock = Clock()
    admission = Admission(Policies(Policy(tokens_per_minute=60)), clock=clock)
    admission.admit(ALICE, job(tokens=100, more=20)).settle(outcome(100, 20))
    clock.advance(60)
    late = refusal(admission, ALICE, job(tokens=1, more=0))
    assert (late.limit, late.retry_seconds) == (Limit.TOKENS, 1.0)
    clock.advance(1)
    admission.admit(ALICE, job(tokens=1, more=0))


def test_the_days_quota_outlives_a_restart_and_ends_at_midnight(tmp_path: Path) -> None:
    clock, policies = Clock(), Policies(Policy(tokens_per_day=100))
    with_ledger = Ledger(tmp_path / "realm.db")
    Admission(policies, with_ledger, clock).admit(ALICE, job(tokens=60, more=10)).settle(outcome(60, 10))
    with_ledger.close()
    clock.advance(3600)
    again = Ledger(tmp_path / "realm.db")
    admission = Admission(policies, again, clock)
    refused = refusal(admission, ALICE, job(tokens=30, more=1))
    assert (refused.limit, refused.retry_seconds) == (Limit.QUOTA, 11 * 3600)
    assert "30 are left" in str(refused)
    admission.admit(ALICE, job(tokens=29, more=1))
    clock.advance(11 * 3600)
    # What still runs over midnight counts for the new day.
    assert refusal(admission, ALICE, job(tokens=70, more=1)).limit is Limit.QUOTA
    admission.admit(ALICE, job(tokens=69, more=1))
    again.close()


def test_servers_on_one_ledger_share_the_days_quota(tmp_path: Path) -> None:
    clock, policies = Clock(), Policies(Policy(tokens_per_day=100))
    ledgers = [Ledger(tmp_path / "realm.db") for _ in range(2)]
    here, there = (Admission(policies, ledger, clock) for ledger in ledgers)
    here.admit(ALICE, job(tokens=10, more=0)).settle(outcome(10, 0))
    there.admit(ALICE, job("chatcmpl-2", tokens=60, more=0)).settle(outcome(60, 0))
    for ledger in ledgers:
        ledger.close()
    here.recount()
    assert "30 are left" in str(refusal(here, ALICE, job(tokens=31, more=0)))
    here.recount()
    here.admit(ALICE, job(tokens=30, more=0))
    clock.advance(DAY_SECONDS)
    here.recount()
    here.admit(ALICE, job(tokens=70, more=0))


@pytest.mark.parametrize(
    ("policy", "limit"),
    [
        (Policy(requests_per_minute=3), Limit.REQUESTS),
        (Policy(tokens_per_minute=100), Limit.TOKENS),
    ],
)
def test_servers_on_one_ledger_share_the_minutes_rates(tmp_path: Path, policy: Policy, limit: Limit) -> None:
    clock, policies = Clock(), Policies(policy)
    ledgers = [Ledger(tmp_path / "realm.db") for _ in range(2)]
    here, there = (Admission(policies, ledger, clock) for ledger in ledgers)
    here.admit(ALICE, job("chatcmpl-1", tokens=30, more=0)).settle(outcome(30, 0))
    there.admit(ALICE, job("chatcmpl-2", tokens=30, more=0)).settle(outcome(30, 0))
    there.admit(ALICE, job("chatcmpl-3", tokens=40, more=0)).settle(outcome(40, 0))
    for ledger in ledgers:
        ledger.close()
    here.recount()
    refused = refusal(here, ALICE, job("chatcmpl-4", tokens=30, more=0))
    assert refused.limit is limit
    here.recount()
    here.recount()
    assert refusal(here, ALICE, job("chatcmpl-4", tokens=30, more=0)).retry_seconds == refused.retry_seconds
    clock.advance(refused.retry_seconds)
    here.admit(ALICE, job("chatcmpl-4", tokens=30, more=0))
    here.admit(BOB, job("chatcmpl-5", tokens=30, more=0))


def test_what_others_used_long_ago_has_run_off(tmp_path: Path) -> None:
    clock, policies = Clock(), Policies(Policy(requests_per_minute=2))
    here, there = (Admission(policies, Ledger(tmp_path / "realm.db"), clock) for _ in range(2))
    for number in range(2):
        there.admit(ALICE, job(f"chatcmpl-{number}")).settle(outcome(1, 0))
    assert there.ledger is not None
    there.ledger.close()
    here.recount()
    clock.advance(61)
    here.admit(ALICE, job("chatcmpl-8"))
    here.admit(ALICE, job("chatcmpl-9"))
    assert here.ledger is not None
    here.ledger.close()


def test_a_quota_without_a_ledger_is_refused() -> None:
    with pytest.raises(PolicyError, match="--ledger"):
        Admission(Policies(Policy(), {"alice": Policy(tokens_per_day=5)}))


GOOD = """\
[defaults]
requests_per_minute = 60
context = 512

[tenants.acme]
concurrency = 16
guest = "guests/acme.wasm"

[tenants."b-2_C"]
requests_burst = 100
"""


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_tenants_have_what_is_written_and_else_the_defaults(tmp_path: Path) -> None:
    policies = load_policies(written(tmp_path / "tenants.toml", GOOD))
    assert policies.of("acme") == Policy(
        requests_per_minute=60, context=512, concurrency=16, guest=tmp_path / "guests/acme.wasm"
    )
    assert policies.of("b-2_C") == Policy(requests_per_minute=60, requests_burst=100, context=512)
    assert policies.of("stranger") == Policy(requests_per_minute=60, context=512)
    assert policies.guests == {"acme": tmp_path / "guests/acme.wasm"}
    assert load_policies(written(tmp_path / "none.toml", "")) == Policies()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[defaults]\nconcurrency = 0\n", "line 2: defaults.concurrency must be a whole number"),
        ("[defaults]\nconcurrency = true\n", "line 2: defaults.concurrency must be a whole number"),
        (
            "[tenants.acme]\n\nrps = 3\n",
            "line 3: tenants.acme.rps is not known; there are requests_per_minute",
        ),
        ("[tenants.acme]\ncontext = '1'\n", "line 2: tenants.acme.context must be a whole number"),
        ("[tenants.'a c']\n", "line 1: tenants.a c is not a tenant: 3 to 64"),
        ("[tenants.acme]\nadapter = 1\n", "line 2: tenants.acme.adapter must be an adapter, as realm serve"),
        ("[tenants.acme]\nadapters = 'x'\n", "line 2: tenants.acme.adapters must be a list of adapters"),
        ("[tenants.acme]\nadapters = ['x', '']\n", "line 2: tenants.acme.adapters must be a list"),
        ("[defaults]\nadapter = 'x'\n", "line 2: defaults.adapter is for single tenants"),
        ("[defaults]\nadapters = ['x']\n", "line 2: defaults.adapters is for single tenants"),
        ("[tenants.acme]\nguest = 1\n", "line 2: tenants.acme.guest must be the path"),
        ("[defaults]\nguest = 'x.wasm'\n", "line 2: defaults.guest is for single tenants"),
        ("[defaults]\nrequests_burst = 9\n", "line 2: defaults.requests_burst needs requests_per_minute"),
        ("[tenant.acme]\n", "tenant is not known; there are [defaults] and [tenants.NAME]"),
        ("tenants = 3\n", "line 1: tenants must be tables"),
        ("tenants.acme = 3\n", "line 1: tenants.acme must be a table"),
        ("[defaults\n", "is not valid TOML: "),
    ],
)
def test_errors_say_where_and_what(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(PolicyError) as caught:
        load_policies(written(tmp_path / "tenants.toml", text))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_adapters_belong_to_the_tenants_that_name_them(tmp_path: Path) -> None:
    text = "[tenants.acme]\nadapter = 'fr'\nadapters = ['de', 'it']\n[tenants.beta]\nadapters = ['de']\n"
    policies = load_policies(written(tmp_path / "tenants.toml", text))
    acme, both = frozenset({"acme"}), frozenset({"acme", "beta"})
    assert policies.adapters == {"fr": acme, "it": acme, "de": both}
    assert (policies.of("acme").adapter, policies.of("beta").adapter) == ("fr", None)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot read the tenants file"):
        load_policies(tmp_path / "none.toml")
