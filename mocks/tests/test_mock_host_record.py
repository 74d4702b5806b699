from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest
from realm_abi.errors import ErrorCode
from realm_abi.guests import guest_bytes
from realm_abi.sandbox import ModuleRejected
from realm_mocks import MockHost, MockServer
from realm_mocks.host import Fault, Return, Trap
from realm_mocks.server import MockServer as TheServer


@pytest.fixture
def host() -> MockHost:
    host = MockHost(guest_bytes("v2"), "hello world")
    host.generate("a prompt", max_tokens=2).check()
    return host


def test_calls_are_found_by_name_and_in_order(host: MockHost) -> None:
    assert [call.nth for call in host.calls("realm_emit")] == [1, 2]
    assert [call.text for call in host.calls("realm_emit")] == ["hello", " world"]
    assert [call.index for call in host.trace] == list(range(len(host.trace)))
    assert host.trace.counts["realm_forward"] == 2
    assert host.trace[:2].names == ["realm_abi_version", "realm_model_info"]
    assert (host.text, len(host.tokens), host.findings) == ("hello world", 2, ())


def test_arguments_and_windows_are_as_the_contract_names_them(host: MockHost) -> None:
    forward = host.calls("realm_forward")[0]
    assert set(forward.arguments) == {"session", "ids_ptr", "n_ids", "logits_ptr", "rows", "cap"}
    ids, logits = forward.windows
    assert (ids.name, ids.direction, ids.count) == ("ids", "in", forward.arguments["n_ids"])
    assert (logits.direction, logits.nbytes) == ("out", 4 * host.model.tokenizer.vocab_size)
    assert forward.ids == tuple(host.model.tokenizer.encode("a prompt", add_bos=True))
    with pytest.raises(KeyError, match="no window"):
        forward.window("hidden")


def test_the_same_run_has_the_same_trace_but_for_times(host: MockHost) -> None:
    again = MockHost(guest_bytes("v2"), "hello world").generate("a prompt", max_tokens=2)
    assert again.trace.as_dicts(times=False) == host.trace.as_dicts(times=False)
    assert again.trace.guest_ns > 0


def test_a_trace_is_json_and_text() -> None:
    host = MockHost(guest_bytes("v2"), "hello", faults=[Fault(Return(-9), "realm_emit")])
    trace = host.generate("a prompt").trace
    rows = json.loads(trace.to_json(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert [row["function"] for row in rows] == trace.names
    emit = next(line for line in str(trace).splitlines() if "realm_emit" in line)
    assert "'hello'" in emit
    assert emit.endswith("= out_of_memory  !! Return(value=-9)")


def test_a_trapped_call_has_no_result() -> None:
    host = MockHost(guest_bytes("v2"), "hello", faults=[Fault(Trap(), "realm_emit")])
    last = host.generate("a prompt").trace[-1]
    assert (last.function, last.result, last.error) == ("realm_emit", None, None)
    assert "= trap" in str(last)


def test_a_check_says_what_was_wrong_and_shows_the_last_calls() -> None:
    run = MockHost(guest_bytes("v2"), "hello", faults=[Fault(Return(-9), "realm_emit", 99)]).generate("p")
    with pytest.raises(
        AssertionError, match=r"never met: Return\(value=-9\) at call 99 of realm_emit"
    ) as caught:
        run.check()
    assert "realm_session_free" in str(caught.value)
    with pytest.raises(AssertionError, match="ended with reason stop_token"):
        MockHost(guest_bytes("v2"), "hello").generate("p").check(error=ErrorCode.internal)


@pytest.mark.parametrize(
    ("guest", "why"),
    [
        ("(module (nonsense))", "does not parse"),
        (b"no module", "not a WebAssembly binary"),
        ("(module)", "imports nothing of the contract"),
        ("no/such/file.wasm", "cannot be read"),
        ('(module (import "env" "realm_typo" (func)))', "realm_typo"),
    ],
)
def test_what_is_no_guest_is_refused_with_a_reason(guest: str | bytes, why: str) -> None:
    with pytest.raises(ModuleRejected, match=why):
        MockHost(guest)


def test_fault_plans_survive_pickling() -> None:
    plan = MockHost(guest_bytes("v2"), faults=[Fault(Trap(), nth=3)]).faults
    assert pickle.loads(pickle.dumps(plan)) == plan


def test_both_mocks_are_there_by_name_and_nothing_else_is() -> None:
    assert MockServer is TheServer
    import realm_mocks

    with pytest.raises(AttributeError, match="MockModel"):
        realm_mocks.MockModel  # noqa: B018


def test_a_client_of_the_server_needs_no_wasmtime() -> None:
    absent = "import sys; sys.modules['wasmtime'] = None"
    code = f"{absent}; import realm_mocks.plugin; from realm_mocks import MockServer"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
