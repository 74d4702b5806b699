"""The rules of the house that no linter knows: who may import whom, what may not stand in the tree."""

import ast
import re
import subprocess
import tomllib
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
ROOMS = {
    "realm_abi": ROOT / "wasm/realm_abi",
    "realm_mocks": ROOT / "mocks/realm_mocks",
    "realm_reference": ROOT / "reference/realm_reference",
    "realm_harness": ROOT / "harness/realm_harness",
    "realm_loadtests": ROOT / "loadtests/realm_loadtests",
}
MAY_IMPORT = {
    "realm_abi": set(),
    "realm_mocks": {"realm_abi"},
    "realm_reference": {"realm_abi"},
    "realm_harness": {"realm_mocks", "realm_abi"},
    "realm_loadtests": {"realm_mocks"},
}
# Inside the reference a request walks down, inside the load tests a run: each floor may use those below it.
FLOORS = {
    "realm_reference": ["server", "orchestration", "engine", "model", "compute"],
    "realm_loadtests": [
        *("commands", "calibration", "runs", "report", "figures"),
        *("users", "records", "scenarios", "wire"),
    ],
}
# What a calibration left behind stands beside the figures that it says the error of.
BESIDE_FLOORS = {"realm_loadtests.calibration", "realm_loadtests.calibration.instrument"}
# Rooms beside them: what each may use of the reference.
SIDE_ROOMS: dict[str, set[str]] = {"tenants": set(), "pipelines": {"model"}}
# The harness without extras must run on a machine without these.
HEAVY = {
    "wasmtime",
    "gguf",
    "tokenizers",
    "platformdirs",
    "locust",
    "gevent",
    "hdrh",
    "matplotlib",
    "cupy",
}
BASE_PACKAGES = {"realm_harness": HEAVY, "realm_mocks": HEAVY - {"wasmtime"}}


def imports_of(file: Path, package: str) -> Iterator[tuple[str, int]]:
    """Absolute names of all that `file` imports, wherever in the file, with the line."""
    for node in ast.walk(ast.parse(file.read_text(), str(file))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                inside = [package, *file.relative_to(ROOMS[package]).parts[:-1]]
                above = inside[: len(inside) - node.level + 1]
                base = ".".join([*above, base] if base else above)
            yield base, node.lineno
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def modules(package: str) -> list[Path]:
    files = sorted(ROOMS[package].rglob("*.py"))
    assert files, f"{package} is empty"
    return files


@pytest.mark.parametrize("package", ROOMS)
def test_packages_import_only_their_neighbours(package: str) -> None:
    allowed = MAY_IMPORT[package] | {package}
    broken = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in modules(package)
        for name, line in imports_of(file, package)
        if name.split(".")[0] in ROOMS and name.split(".")[0] not in allowed
    ]
    assert not broken


@pytest.mark.parametrize("package", FLOORS)
def test_floors_never_look_up(package: str) -> None:
    floors, broken = FLOORS[package], []
    for file in modules(package):
        floor = file.relative_to(ROOMS[package]).parts[0]
        if floor not in floors:
            continue
        above = floors[: floors.index(floor)]
        for name, line in imports_of(file, package):
            parts = name.split(".")
            looks_up = parts[0] == package and len(parts) > 1 and parts[1] in above
            if looks_up and ".".join(parts[:3]) not in BESIDE_FLOORS:
                broken.append(f"{file.relative_to(ROOT)}:{line} ({floor}) imports {name}")
    assert not broken


@pytest.mark.parametrize("room", SIDE_ROOMS)
def test_side_rooms_use_only_what_is_theirs(room: str) -> None:
    allowed = SIDE_ROOMS[room] | {room}
    broken = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in sorted((ROOMS["realm_reference"] / room).rglob("*.py"))
        for name, line in imports_of(file, "realm_reference")
        if name.startswith("realm_reference.") and name.split(".")[1] not in allowed
    ]
    assert not broken


def test_deployments_know_the_server_by_its_command_line_alone() -> None:
    allowed = {"deploy", "serve_commands"}
    broken = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in (ROOMS["realm_reference"] / "deploy").rglob("*.py")
        for name, line in imports_of(file, "realm_reference")
        if name.startswith("realm_reference.") and name.split(".")[1] not in allowed
    ]
    assert not broken


@pytest.mark.parametrize("package", BASE_PACKAGES)
def test_base_install_needs_no_extra(package: str) -> None:
    broken = [
        f"{file.relative_to(ROOT)}:{line} imports {name}"
        for file in modules(package)
        for name, line in imports_of(file, package)
        if name.split(".")[0] in BASE_PACKAGES[package]
    ]
    assert not broken


def test_commands_and_plugins_exist() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    for group, names in declared.items():
        found = {point.name: point for point in entry_points(group=group)}
        for name in names:
            assert found[name].load() is not None, f"{group}: {name}"


def pinned(lock: str) -> dict[str, str]:
    lines = (ROOT / "ci/locks" / lock).read_text().splitlines()
    pins = [re.match(r"([A-Za-z0-9._-]+)==([^ ]+)", line) for line in lines]
    return {canonicalize_name(pin[1]): pin[2] for pin in pins if pin}


def test_locks_pin_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    run = [*project["dependencies"], *extras["guest"], *extras["reference"], *extras["load"]]
    wanted = {
        "run.txt": run,
        "dev.txt": [*run, *extras["dev"]],
    }
    for lock, requirements in wanted.items():
        pins = pinned(lock)
        for requirement in map(Requirement, requirements):
            name = canonicalize_name(requirement.name)
            if name == "realm-harness":
                continue
            assert name in pins, f"{lock} lacks {name}: run `make lock`"
            assert requirement.specifier.contains(pins[name]), (
                f"{lock} pins {name} {pins[name]}: run `make lock`"
            )
    assert pinned("run.txt").items() <= pinned("dev.txt").items(), (
        "both locks share one environment: run `make lock`"
    )


def test_locks_carry_hashes_and_no_address() -> None:
    for lock in ("run.txt", "dev.txt"):
        text = (ROOT / "ci/locks" / lock).read_text()
        assert "://" not in text
        for entry in re.split(r"\n(?=\S)", text.strip()):
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def tracked_text() -> Iterator[tuple[Path, str]]:
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, capture_output=True, text=True)
    for name in listing.stdout.split("\0"):
        file = ROOT / name
        if name and file.is_file() and file.suffix not in {".wasm", ".png", ".npz", ".gguf"}:
            yield file, file.read_text(errors="replace")


def test_no_machine_path_and_no_registry_host_in_the_tree() -> None:
    # Written in pieces, so that this file does not find itself.
    hosts = ["files.python" + "hosted", "pypi" + r"\.org", "deb" + r"\.debian", "registry" + r"\.npmjs"]
    folders = ["/wo" + "rk/", "/fa" + "rm/", "/ro" + "ot/", "/tm" + "p/plan"]
    pattern = re.compile("|".join([*hosts, *(r"(?<![\w.])" + folder for folder in folders)]))
    found = [
        f"{file.relative_to(ROOT)}: {hit[0]}"
        for file, text in tracked_text()
        if (hit := pattern.search(text))
    ]
    assert not found


def test_files_are_read_in_one_sitting() -> None:
    long = {
        str(file.relative_to(ROOT)): lines
        for file, text in tracked_text()
        if file.suffix in {".py", ".c", ".h"} and (lines := text.count("\n")) > 600
    }
    assert not long
