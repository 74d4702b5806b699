"""Locust as a process of its own: started, watched, ended.

A process and not a library, because gevent has to replace the standard library before anything is imported,
and because locust's web UI and its workers then come as they are.
"""

from __future__ import annotations

import json
import math
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from realm_loadtests.records.measures import Measures
from realm_loadtests.records.records import read_records
from realm_loadtests.settings import Settings

LOG_FILE = "locust.log"
MASTER_PORT = 5557
"""Where a master waits for workers from other machines: locust's own port."""
WORKERS_WAIT_S = 120
GRACE_S = 30.0
LOCUSTFILE = Path(__file__).parent.parent / "users" / "locustfile.py"


class LocustFailed(Exception):
    """Locust could not run at all; the message names its log."""


def run_locust(
    settings: Settings,
    folder: Path,
    *,
    api_key: str | None,
    on_progress: Callable[[dict[str, Any]], None],
    web_port: int | None = None,
    bind: tuple[str, int] | None = None,
) -> tuple[Measures, str | None]:
    """Run the load test to its end; return its measures and, if it was disturbed, a note on how.

    With `bind`, an address to listen at, the settings' processes are workers of other machines, which are
    waited for. Ctrl-C ends the test early and keeps its result; a second one ends it at once. If locust dies,
    the measures are rebuilt from the records that it had written.
    """
    log_path = folder / LOG_FILE
    with log_path.open("w", encoding="utf-8") as log:
        process = subprocess.Popen(
            locust_command(settings, web_port=web_port, bind=bind),
            env=settings.to_environment(api_key),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            # A session of its own: the terminal's Ctrl-C is for us, and we pass it on once.
            start_new_session=True,
        )
        kept, note = _watch(process, settings, on_progress, WORKERS_WAIT_S if bind else 0)
    return _collect(folder, kept, note, process.returncode)


def locust_command(
    settings: Settings, *, web_port: int | None = None, bind: tuple[str, int] | None = None
) -> list[str]:
    """The command line; nothing secret is on it. In the open loop each process has one user of locust's."""
    processes = settings.processes
    users, rate = (processes, processes) if settings.arrivals else (settings.users, settings.spawn_rate)
    command = [
        sys.executable,
        "-m",
        "locust",
        "-f",
        str(Path(__file__).parent.parent / "users" / "locustfile.py"),
    ]
    command += ["--host", settings.url, "--users", str(users)]
    command += ["--spawn-rate", str(rate), "--only-summary", "--loglevel", "WARNING"]
    if bind:
        command += ["--master", "--expect-workers", str(processes)]
        command += ["--expect-workers-max-wait", str(WORKERS_WAIT_S)]
        command += ["--master-bind-host", bind[0], "--master-bind-port", str(bind[1])]
    elif processes > 1:
        port = str(_free_port())
        command += ["--processes", str(processes), "--master-bind-host", "127.0.0.1"]
        command += ["--master-bind-port", port, "--master-port", port]
    if web_port is None:
        return [*command, "--headless"]
    return [*command, "--autostart", "--web-host", "127.0.0.1", "--web-port", str(web_port)]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _watch(
    process: subprocess.Popen[str],
    settings: Settings,
    on_progress: Callable[[dict[str, Any]], None],
    wait_s: float,
) -> tuple[dict[str, Any] | None, str | None]:
    """Pass the progress on until locust ends; stop it when it is asked to, or does not end by itself. Returns
    what locust said last, and a note.
    """
    assert process.stdout is not None
    limit = settings.duration_s + settings.drain_s + GRACE_S + wait_s
    watchdog = threading.Timer(limit, process.kill)
    watchdog.start()
    kept = note = None
    try:
        try:
            kept = _read_progress(process.stdout, on_progress)
        except KeyboardInterrupt:
            note = "ended early by Ctrl-C"
            process.terminate()
            kept = _read_progress(process.stdout, on_progress)
        process.wait()
    except KeyboardInterrupt:
        process.kill()
        process.wait()
    finally:
        watchdog.cancel()
        process.stdout.close()
    return kept, note


def _read_progress(stream: IO[str], on_progress: Callable[[dict[str, Any]], None]) -> dict[str, Any] | None:
    """Pass each state on; return what `Collector.finish` made at the end, if it came to that."""
    kept: dict[str, Any] | None = None
    for line in stream:
        if line.startswith("{"):
            state = json.loads(line)
            if "measures" in state:
                kept = state
                continue
            clean = {key: None if _is_nan(value) else value for key, value in state.items()}
            on_progress(clean)
    return kept


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _collect(
    folder: Path, kept: dict[str, Any] | None, note: str | None, returncode: int
) -> tuple[Measures, str | None]:
    if kept is not None:
        return _kept(folder, kept, note)
    measures = Measures.of(read_records(folder))
    log = (folder / LOG_FILE).read_text(encoding="utf-8", errors="replace")
    if measures.requests == 0 and "Gave up waiting for workers" in log:
        raise LocustFailed(
            f"fewer workers came within {WORKERS_WAIT_S} s than were waited for: start each with "
            "realm load worker HOST:PORT, and see --bind for who can reach this machine"
        )
    if measures.requests == 0:
        raise LocustFailed(
            f"locust ended with status {returncode} before any request: see {folder / LOG_FILE}"
        )
    killed = f"locust died (status {returncode}); figures are rebuilt from the records it had written"
    return measures, note or killed


def _kept(folder: Path, document: dict[str, Any], note: str | None) -> tuple[Measures, str | None]:
    """The measures as locust left them. A lost worker's last requests are in the records alone."""
    measures = Measures.from_json(document["measures"])
    lost = document["lost_workers"]
    if lost:
        whole = Measures.of(read_records(folder))
        if whole.requests > measures.requests:
            whole.lag, whole.cpu_s, whole.window_s = measures.lag, measures.cpu_s, measures.window_s
            measures = whole
        measures.lost_workers = len(lost)
    notes = [note, document["records_error"], *lost]
    return measures, "; ".join(each for each in notes if each) or None
