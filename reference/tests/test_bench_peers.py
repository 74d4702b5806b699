"""`realm bench peers` compares like with like and says plainly what it lacks; how fast anything is, no test
asks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from realm_reference.bench import peers
from realm_reference.bench.bandwidth import read_bandwidth
from realm_reference.bench.sides import Side, SideFailed, own_command, peer_command
from realm_reference.commands import bench

# As much of llama.cpp's interface as the peer uses; it notes what it was asked to decode.
FAKE = """
import ctypes, json, os, types
__version__ = "0"
llama_log_callback = ctypes.CFUNCTYPE(None)
calls = open(os.environ["FAKE_CALLS"], "a", buffering=1)
class Row(list):
    def __getitem__(self, i):
        while len(self) <= i: self.append([0])
        return list.__getitem__(self, i)
    def __setitem__(self, i, value):
        self[i]
        list.__setitem__(self, i, value)
def llama_log_set(*_): pass
def llama_backend_init(): print("noise on stdout")
def llama_model_default_params(): return None
def llama_model_load_from_file(path, _): return path
def llama_context_default_params(): return types.SimpleNamespace()
def llama_init_from_model(model, params): return params
def llama_batch_init(*_):
    fields = ("token", "pos", "n_seq_id", "seq_id", "logits")
    return types.SimpleNamespace(**{field: Row() for field in fields})
def llama_get_memory(_): return None
def llama_memory_seq_rm(*_): pass
def llama_get_logits_ith(*_): pass
def llama_decode(context, batch):
    rows = [(batch.seq_id[i][0], batch.pos[i], bool(batch.logits[i])) for i in range(batch.n_tokens)]
    calls.write(json.dumps(rows) + chr(10))
    return 0
"""


@pytest.fixture
def fake_llama(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "llama_cpp.py").write_text(FAKE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAKE_CALLS", str(tmp_path / "calls"))
    return tmp_path / "calls"


def test_the_peer_decodes_what_it_is_asked_to(fake_llama: Path) -> None:
    with Side("llama.cpp", peer_command(Path(sys.executable), Path("any.gguf"), 1)) as side:
        assert side.told == {"ready": "llama-cpp-python 0"}
        fake_llama.write_text("")
        assert side.seconds("prefill", tokens=3) > 0
        assert side.seconds("decode", rows=2, steps=2, context=4) > 0
    calls = [json.loads(line) for line in fake_llama.read_text().splitlines()]
    assert calls[0] == [[0, 0, False], [0, 1, False], [0, 2, True]]
    assert len(calls) == 1 + 16 + 2  # a prompt, the context of each sequence, two steps
    assert calls[-1] == [[0, 5, True], [1, 5, True]]


def test_our_side_does_the_same_tasks(tiny_gguf: Path) -> None:
    with Side("ours", own_command(str(tiny_gguf), "numpy", "exact", 1)) as side:
        assert side.told["ready"] == "NumPy, float32"
        assert side.seconds("prefill", tokens=20) > 0
        assert side.seconds("decode", rows=16, steps=1, context=4) > 0
        assert side.resident_mib is None or side.resident_mib > 1


def test_a_side_that_ends_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SideFailed, match=r"ours ended: .*none\.gguf: no such model file"):
        Side("ours", own_command(str(tmp_path / "none.gguf"), "numpy", "exact", 1))


def test_a_python_without_the_peer_is_refused() -> None:
    result = CliRunner().invoke(bench, ["peers", "--peer-python", sys.executable])
    assert result.exit_code == 2
    assert "has no llama-cpp-python; run:" in result.output


def test_ratios_are_of_rounds_and_goals_are_judged() -> None:
    rates = {
        work.name: {"exact": [10.0, 30.0, 90.0], "int8": [8.0, 8.0, 8.0], peers.LLAMA: [5.0, 10.0, 90.0]}
        | {peers.BEST: [4.0, 4.0, 16.0]}
        for work in peers.WORKLOADS
    }
    rates[peers.HTTP] = {name: [4.0] for name in (*peers.OWN, peers.LLAMA)}
    figures = peers.summary(rates)
    assert figures["ratios"]["prefill 256"][f"exact / {peers.LLAMA}"] == 2.0  # of 2, 3 and 1
    assert len(figures["goals"]) == len(peers.GOALS) + len(peers.WORKLOADS)
    sides: dict[str, Any] = {
        name: {"start_s": 1.0, "resident_mib": None, "bytes": 100}
        for name in (*peers.OWN, peers.LLAMA, peers.BEST, "server: exact")
    }
    result = {
        "machine": {"platform": "here", "cpus": 2, "load": 0, "read_bytes_per_s": 1e4},
        "versions": {},
        "settings": {"threads": 2, "rounds": 3},
        "model": {"name": "any.gguf", "bytes": 100},
        "sides": sides,
        "summary": figures,
    }
    text = "\n".join(peers.table(result))
    assert "prefill 256, exact: 2.00 x llama.cpp, goal 1.8: reached" in text
    assert "prefill 256, int8: 0.80 x llama.cpp, goal 3.5: missed" in text
    assert "prefill 256, int8: 2.00 x llama.cpp Q4_0, goal 1: reached" in text
    (bound,) = [line for line in text.splitlines() if line.startswith("of the bound")]
    assert bound.split()[-4:] == ["30", "8", "10", "-"]  # 30 tokens of 100 bytes, of 10,000 bytes a second


def test_memory_is_read_at_some_speed() -> None:
    assert read_bandwidth(2) > 0
