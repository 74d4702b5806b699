"""The one door: every request asks here, whatever it came by, and is written down when it is over."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from realm_reference.tenants.caller import Caller
from realm_reference.tenants.gate import DAY_SECONDS, Gate, Moment
from realm_reference.tenants.lease import Job, Lease, Outcome
from realm_reference.tenants.ledger import Ledger, Row
from realm_reference.tenants.policy import Policies, Policy, PolicyError

NO_LIMIT: Final = 2**31 - 1
_MOST_NEWS: Final = 1024  # what is older has run off


def wall_moment() -> Moment:
    """Now, by the machine's clocks."""
    return Moment(time.monotonic_ns(), time.time())


class Admission:
    """Lets requests in within their tenants' limits. Use it on one thread, but for `use`."""

    def __init__(
        self,
        policies: Policies | None = None,
        ledger: Ledger | None = None,
        clock: Callable[[], Moment] = wall_moment,
    ) -> None:
        """With a ledger, what was used today before this start counts. PolicyError as in `accept`,
        LedgerError.
        """
        self.ledger = ledger
        self._policies = policies or Policies()
        self.accept(self._policies)
        self._clock = clock
        self._gates: dict[str, tuple[Policies, Gate]] = {}
        self._used_before: tuple[int, dict[str, int]] = (0, {})
        self._recounting = threading.Lock()
        self._news: deque[tuple[Moment, dict[str, tuple[int, int]]]] = deque(maxlen=_MOST_NEWS)
        self.recount()

    @property
    def failing(self) -> bool:
        """Whether the last row could not be written down."""
        return self.ledger is not None and self.ledger.failing

    def accept(self, policies: Policies) -> None:
        """PolicyError for limits that cannot be kept here."""
        if policies.have_quota and self.ledger is None:
            raise PolicyError("tokens_per_day needs a ledger, which remembers over restarts: --ledger FILE")

    def recount(self) -> None:
        """Take over from the ledger, where other servers write too, what was used today and since the last
        time. Thread-safe.
        """
        if self.ledger is None:
            return
        moment = self._clock()
        with self._recounting:
            if news := self.ledger.written_elsewhere():
                self._news.append((moment, news))
            if self._policies.have_quota:
                self._used_before = moment.day, self.ledger.tokens_since(moment.day * DAY_SECONDS)

    def use(self, policies: Policies) -> None:
        """Other limits from now on, for those inside too; thread-safe."""
        self._policies = policies

    def policy(self, tenant: str) -> Policy:
        """What the tenant may use."""
        return self._policies.of(tenant)

    def context_cap(self, tenant: str) -> int:
        """The longest sequence (prompt and completion) that the tenant may have, in tokens."""
        return self.policy(tenant).context or NO_LIMIT

    def check(self, caller: Caller) -> None:
        """Refused if the tenant may not start anything now: asked early, so that refusing costs little."""
        self._gate(caller.tenant).check(1, self._clock())

    def admit(self, caller: Caller, job: Job) -> Lease:
        """A lease for `job`, which its holder has to settle; or Refused."""
        moment = self._clock()
        gate = self._gate(caller.tenant)
        reserved = job.prompt_tokens + job.max_tokens
        gate.enter(reserved, moment)
        return Lease(
            gate.left(moment),
            lambda used: gate.leave(reserved, used, self._clock()),
            lambda outcome: self._write(caller, job, moment, outcome),
        )

    def _gate(self, tenant: str) -> Gate:
        while self._news:
            moment, news = self._news.popleft()
            for other, (requests, tokens) in news.items():
                self._gate_at(other, moment).used_elsewhere(requests, tokens, moment)
        return self._gate_at(tenant, self._clock())

    def _gate_at(self, tenant: str, moment: Moment) -> Gate:
        policies = self._policies
        made_with, gate = self._gates.get(tenant, (None, None))
        if gate is None:
            gate = Gate(policies.of(tenant), moment)
        elif made_with is not policies:
            gate.change(policies.of(tenant), moment)
        self._gates[tenant] = (policies, gate)
        day, used = self._used_before
        gate.used_at_least(used.get(tenant, 0), day, moment)
        return gate

    def _write(self, caller: Caller, job: Job, started: Moment, outcome: Outcome) -> Future[None]:
        if self.ledger is None:
            written: Future[None] = Future()
            written.set_result(None)
            return written
        return self.ledger.write(
            Row(
                id=job.id,
                request_id=job.request_id,
                started=started.unix,
                tenant=caller.tenant,
                key_id=caller.key_id,
                endpoint=job.endpoint,
                model=job.model,
                prompt_tokens=outcome.prompt_tokens,
                completion_tokens=outcome.completion_tokens,
                status=outcome.status.value,
                finish=outcome.finish,
                queue_seconds=outcome.timings.queue,
                ttft_seconds=outcome.timings.ttft,
                total_seconds=outcome.timings.total,
            )
        )
