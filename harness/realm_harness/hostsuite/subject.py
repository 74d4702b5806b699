"""The host under test, as the cases see it: run a script on it, and see that it is as well as before."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from realm_abi.contract import load_contract
from realm_abi.guests import probe_bytes

from realm_harness.case import Broken, Case, Unsupported
from realm_harness.hostsuite.baseline import HIDDEN, IDS, OUT, World, put_ids
from realm_harness.hostsuite.host import Host, HostUnavailable, Launcher, Refused, Reply
from realm_harness.hostsuite.report import Report, read_report
from realm_harness.hostsuite.script import Script
from realm_harness.results import Evidence

PIECES = 120
"""max_tokens of a request: the probe's report comes in pieces of 480 bytes, each a token."""

LEAST_VOCABULARY = 16
NO_TOKEN = 0xFFFF_FFFF


@dataclass(frozen=True)
class HostFacts:
    """What is known of the host under test."""

    host: str
    model: str
    versions: tuple[int, ...]

    @property
    def name(self) -> str:
        """How it is started."""
        return self.host

    @property
    def detail(self) -> str:
        """What it speaks."""
        return f"{self.model}, ABI {', '.join(f'v{version}' for version in self.versions)}"

    def as_json(self) -> dict[str, Any]:
        """The `target` of a results file."""
        return {"host": self.host, "model": self.model, "abi_versions": list(self.versions)}


@dataclass(frozen=True)
class Settings:
    """How much the suite asks of a host. `calls` is how many the probe makes that calls without end."""

    calls: int = 1_000_000
    memory_bytes: int = 256 << 20


@dataclass
class HostSubject:
    """A host with a probe of each version, started when first asked for and stopped by `close`."""

    launcher: Launcher
    settings: Settings = field(default_factory=Settings)
    _hosts: dict[int, Host] = field(default_factory=dict)
    _refused: dict[int, str] = field(default_factory=dict)
    _worlds: dict[int, World] = field(default_factory=dict)
    _healthy: dict[int, tuple[str, ...]] = field(default_factory=dict)
    _last: int = 2
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def open(self) -> None:
        """Starts it with each probe. HostUnavailable if it runs neither."""
        for version in load_contract().versions:
            try:
                self.world(version)
            except Unsupported:
                continue
            except Broken as broken:
                raise HostUnavailable(
                    f"the probe of ABI v{version} does not get an answer: {broken}"
                ) from None
        if not self._hosts:
            said = "; ".join(f"v{version}: {why}" for version, why in self._refused.items())
            raise HostUnavailable(f"the host takes neither probe ({said})")

    def close(self) -> None:
        """Stops what was started."""
        for host in self._hosts.values():
            host.close()
        self._hosts.clear()

    def host(self, version: int) -> Host:
        """The host that runs the probe of a version; Unsupported if it does not take it."""
        with self._lock:
            self._last = version
            if version in self._refused:
                raise Unsupported(f"the host takes no guest of ABI v{version}: {self._refused[version]}")
            if version not in self._hosts:
                try:
                    self._hosts[version] = self.launcher.launch(probe_bytes(version))
                except Refused as refused:
                    self._refused[version] = str(refused)
                    return self.host(version)
            return self._hosts[version]

    def attempt(self, version: int, script: Script, **params: object) -> Reply:
        """One request with a script, however it ends."""
        return self.host(version).complete(
            script.prompt, **{"max_tokens": PIECES, "temperature": 0, **params}
        )

    def run(self, version: int, script: Script, **params: object) -> Report:
        """One request with a script whose report has to come back; Broken if it does not."""
        reply = self.attempt(version, script, **params)
        if reply.failure:
            calls = "; ".join(step.text for step in script.steps)
            raise Broken(f"a request whose guest made these calls ended with {reply.failure}: {calls[:600]}")
        return read_report(script, reply.text)

    @property
    def versions(self) -> list[int]:
        """The versions of the ABI whose probe the host takes."""
        return sorted(self._hosts)

    @property
    def any_version(self) -> int:
        """One of them."""
        return self.versions[-1]

    def read(self, script: Script, reply: Reply) -> Report:
        """The report in a reply."""
        return read_report(script, reply.text)

    @contextmanager
    def meanwhile(self, version: int, scripts: list[Script]) -> Iterator[Callable[[], list[Reply]]]:
        """Runs requests while the body runs; what it is given waits for their replies."""
        with ThreadPoolExecutor(len(scripts)) as pool:
            running = [pool.submit(self.attempt, version, script) for script in scripts]
            yield lambda: [future.result() for future in running]

    def refusal(self, wasm: bytes) -> str | None:
        """What the host says when it does not take a module, None if it takes it."""
        try:
            self.launcher.launch(wasm).close()
        except Refused as refused:
            return str(refused)
        return None

    def never_answers(self, wasm: bytes, what: str, requests: int = 1) -> None:
        """Broken if a guest with this module is answered with success, or never; or if others notice."""
        try:
            host = self.launcher.launch(wasm)
        except Refused:
            return
        try:
            replies = [host.complete("hello", max_tokens=4) for _ in range(requests)]
        finally:
            host.close()
        for reply in replies:
            if reply.hung:
                raise Broken(f"a module with {what} is never ended: {reply.failure}")
            if not reply.failure:
                raise Broken(f"a module with {what} is answered as if it had succeeded: {reply.text!r}")
        self.still_well(self.any_version, f"a module with {what}")

    def together(self, version: int, scripts: list[Script]) -> list[Reply]:
        """Requests at the same time."""
        with ThreadPoolExecutor(len(scripts)) as pool:
            return list(pool.map(lambda script: self.attempt(version, script), scripts))

    def world(self, version: int) -> World:
        """What the guest is told of the model."""
        if version not in self._worlds:
            host = self.host(version)
            self._worlds[version] = self._world_v1(host) if version == 1 else self._world_v2(host)
            if self._worlds[version].vocab_size < LEAST_VOCABULARY:
                raise Broken(f"the model's vocabulary is said to be {self._worlds[version].vocab_size}")
            self._healthy[version] = self.healthy(version)
        return self._worlds[version]

    def _world_v2(self, host: Host) -> World:
        script = Script()
        asked = script.call("realm_model_info", "M", OUT, 24, out=[f"{OUT} *1"])
        told = script.do(f"peek {OUT} 24")
        report = self.run(2, script)
        if report[asked].result != 24:
            raise Broken(f"realm_model_info answered {report[asked].result} instead of 24 bytes")
        info = load_contract().structs["ModelInfo"].unpack(report[told].data)
        names = ("vocab_size", "hidden_size", "num_layers", "context_length", "eos_token")
        return World(host.model, *(int(info[name]) for name in names))

    def _world_v1(self, host: Host) -> World:
        script = Script()
        asked = script.call("realm_get_model_metadata", "M", OUT, 2048, out=[f"{OUT} *1"])
        told = script.do(f"peek {OUT} R{asked}")
        report = self.run(1, script)
        try:
            config = json.loads(report[told].data)["config"]
            names = ("vocab_size", "hidden_size", "num_layers", "max_seq_len")
            vocab, hidden, layers, context = (int(config[name]) for name in names)
            return World(host.model, vocab, hidden, layers, context, NO_TOKEN)
        except (ValueError, KeyError, TypeError) as error:
            raise Broken(f"realm_get_model_metadata gave {report[told].data[:200]!r}: {error!r}") from None

    def healthy(self, version: int) -> tuple[str, ...]:
        """Digests of the logits that a well-behaved guest gets: the same each time, bit for bit."""
        script = Script()
        steps = computation(script, version, self._worlds[version])
        report = self.run(version, script)
        all_well(report)
        return tuple(digest for number in steps for digest in report[number].digests)

    def still_well(self, version: int, after: str) -> None:
        """Broken if a well-behaved guest is not served as it was at the start."""
        world = self.world(version)
        try:
            now = self.healthy(version)
        except Broken as broken:
            raise Broken(f"after {after} a well-behaved guest is not served any more: {broken}") from None
        if now != self._healthy[version]:
            raise Broken(
                f"after {after} a well-behaved guest gets other logits for the same tokens than before (model"
                f" {world.name}; digests {now} instead of {self._healthy[version]})"
            )

    # What `conform.Subject` asks for

    def begin_case(self) -> None:
        """Evidence begins anew."""
        for host in self._hosts.values():
            host.begin_case()

    def evidence(self, _case: Case) -> Evidence:
        """What the last host used has seen."""
        host = self._hosts.get(self._last)
        return host.evidence() if host else Evidence("", "", [])

    @property
    def facts(self) -> HostFacts:
        """What it is."""
        model = next((host.model for host in self._hosts.values()), "")
        return HostFacts(self.launcher.name, model, tuple(sorted(self._hosts)))


def all_well(report: Report, but: Iterable[int] = ()) -> None:
    """Broken if a call fails, in any round, or if memory changed; `but` are calls that shall fail."""
    meant = set(but)
    for number, step in enumerate(report.script.steps):
        entry = report[number]
        failed = entry.failure or (entry.result < 0)
        if step.function and number not in meant and (failed or entry.change):
            what = (
                f"{entry.change} changed" if entry.change else f"it answered {entry.failure or entry.result}"
            )
            raise Broken(f"a call that is right fails: {step.text}: {what}")
        if number in meant and entry.result >= 0:
            raise Broken(f"a call that is wrong answered {entry.result}: {step.text}")


def computation(script: Script, version: int, world: World) -> list[int]:
    """Adds what a loop does: three tokens, then one more; the numbers of the calls that give logits."""
    put_ids(script, world, "5 6 7 8")
    if version == 1:
        return [layerwise(script, world, 3, 0), layerwise(script, world, 1, 3)]
    session = script.call("realm_session_open", "M")
    first = forward(script, world, f"R{session}", IDS, 3)
    then = forward(script, world, f"R{session}", f"{IDS}+12", 1)
    script.call("realm_session_free", f"R{session}")
    return [first, then]


def forward(script: Script, world: World, session: str, ids: str, count: int, rows: int = 1) -> int:
    """A v2 forward of `count` tokens at `ids`, the logits at OUT."""
    size = rows * world.vocab_size
    return script.call("realm_forward", session, ids, count, OUT, rows, size, out=[f"{OUT} {4 * size}"])


def layerwise(script: Script, world: World, count: int, position: int, ids: str = IDS) -> int:
    """Takes `count` of the tokens at `ids`, from `position` on, through a v1 host; the logits' call."""
    hidden, vocab = world.hidden_size, world.vocab_size
    window = f"{HIDDEN} {4 * count * hidden}"
    script.call("realm_embed_tokens", "M", f"{ids}+{4 * position}", count, HIDDEN, out=[window])
    layer = ("M", "I", HIDDEN, count * hidden, position, HIDDEN)
    script.call("realm_forward_layer", *layer, out=[window], how=f"times {world.num_layers}")
    last = f"{HIDDEN}+{4 * hidden * (count - 1)}"
    return script.call("realm_compute_logits", "M", last, hidden, OUT, out=[f"{OUT} {4 * vocab}"])
