"""Deployment files: what they may say, how mistakes are told, and the manifests that come out."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import kubernetes_validate  # type: ignore[import-untyped]
import pytest
import yaml
from click.testing import CliRunner, Result
from realm_reference.commands import deploy, serve
from realm_reference.deploy import probes
from realm_reference.deploy.arguments import check
from realm_reference.deploy.deployment import Deployment, load
from realm_reference.deploy.environment import read_env_file
from realm_reference.deploy.errors import DeployError
from realm_reference.deploy.targets import RENDERERS

FULL = """
name = "chat"
model = "smollm2-135m"
replicas = 3
max-replicas = 6
port = 8088
metrics-port = 9200
keys = "keys.json"
tenants = "tenants.toml"
env-file = "realm.env"
memory = "3Gi"
cpus = 1.5
drain-grace = 2.5
drain-timeout = 20

[env]
REALM_NOTE = 'a "quoted" 100% $HOME \\ $(X) note'

[serve]
max-tenants = 4
wasm = "v1"
request-timeout = 30.5
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "keys.json").write_text("[]", "utf-8")
    (tmp_path / "tenants.toml").write_text("", "utf-8")
    (tmp_path / "realm.env").write_text("# a comment\nTOKEN=hush=hush\n\n", "utf-8")
    return tmp_path


@pytest.fixture
def full(folder: Path) -> Deployment:
    (folder / "chat.toml").write_text(FULL, "utf-8")
    return load(folder / "chat.toml")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(deploy, [str(argument) for argument in arguments])


def test_toml_and_yaml_say_the_same(full: Deployment, folder: Path) -> None:
    import tomllib

    (folder / "chat.yaml").write_text(yaml.safe_dump(tomllib.loads(FULL)), "utf-8")
    assert load(folder / "chat.yaml") == full
    assert (full.keys, full.stop_seconds) == (folder / "keys.json", 32)


BAD_FILES = {
    "model = 'm'": "the setting 'name' is missing",
    "name = 'chat'": "the setting 'model' is missing",
    "name = 'chat'\nmodel = 'm'\nreplica = 2": "unknown setting 'replica'; did you mean 'replicas'?",
    "name = 'Chat'\nmodel = 'm'": "'name' must be",
    "name = 'chat'\nmodel = 5": "'model' must be",
    "name = 'chat'\nmodel = 'm'\nreplicas = 0": "'replicas' must be a whole number from 1 to 32",
    "name = 'chat'\nmodel = 'm'\nreplicas = true": "'replicas' must be",
    "name = 'chat'\nmodel = 'm'\nport = 0": "'port' must be",
    "name = 'chat'\nmodel = 'm'\nkeys = 'nokeys.json'": "which is not a file",
    "name = 'chat'\nmodel = 'none.gguf'": "which is not a file",
    "name = 'chat'\nmodel = 'm'\nmemory = '2 GB'": "'memory' must be a size such as",
    "name = 'chat'\nmodel = 'm'\nreplicas = 3\nmax-replicas = 2": "less than 'replicas'",
    "name = 'chat'\nmodel = 'm'\n[env]\nA = 1": "put quotes around it",
    "name = 'chat'\nmodel = 'm'\n[env]\n'A B' = '1'": "cannot name a variable",
    "name = 'chat'\nmodel = 'm'\n[serve]\nmax-tenats = 1": "did you mean 'max-tenants'?",
    "name = 'chat'\nmodel = 'm'\n[serve]\nmax-tenants = 0": "`realm serve` would refuse this",
    "name = 'chat'\nmodel = 'm'\n[serve]\ngpu = 1": "must be true or false",
    "name = 'chat'\nmodel = 'm'\n[serve]\nport = 1": "decided by the deployment's own settings",
    "name = 'chat'\nmodel = 'm'\n[serve]\nwasm = [1]": "must hold options",
    "name = ": "cannot be parsed",
    "": "the setting 'name' is missing",
}


@pytest.mark.parametrize("content", BAD_FILES)
@pytest.mark.parametrize("target", ["local", *RENDERERS])
def test_a_bad_file_is_told_in_one_line(
    tmp_path: Path, content: str, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALM_STATE", "/nowhere")
    (tmp_path / "chat.toml").write_text(content, "utf-8")
    done = run(target, tmp_path / "chat.toml", "--dry-run")
    assert done.exit_code == 2
    assert BAD_FILES[content] in done.output
    assert len(done.output.splitlines()) == 1, done.output


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("none.toml", None, "No such file"),
        ("list.yaml", "- a", "settings by name"),
        ("bad.yaml", "a: [", "parsed"),
        ("twice.yaml", "name: a\nport: 1\nport: 2", "the key 'port' stands there twice"),
        ("inner.yaml", "name: a\nenv:\n  A: x\n  A: y", "the key 'A' stands there twice"),
    ],
)
def test_a_file_that_is_none(tmp_path: Path, name: str, content: str | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_text(content, "utf-8")
    done = run("compose", tmp_path / name, "--dry-run")
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1


@pytest.mark.parametrize("target", ["local", *RENDERERS])
@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("keys.json", "[{}", "not valid JSON"),
        ("tenants.toml", "[tenants.alice]\nconcurency = 1", "concurency"),
        ("tenants.toml", "[defaults]\ntokens_per_day = 5", "needs the setting 'ledger'"),
    ],
)
def test_keys_and_limits_that_no_server_could_use_are_told(
    target: str, name: str, content: str, said: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REALM_STATE", "/nowhere")
    (folder / "chat.toml").write_text(FULL, "utf-8")
    (folder / name).write_text(content, "utf-8")
    done = run(target, folder / "chat.toml", "--dry-run")
    assert done.exit_code == 2
    assert said in done.output
    assert len(done.output.splitlines()) == 1, done.output


def test_a_bad_env_file_is_named_without_its_content(tmp_path: Path) -> None:
    (tmp_path / "env").write_text("A=1\nthe secret\n", "utf-8")
    with pytest.raises(DeployError, match="line 2 is not NAME=value") as caught:
        read_env_file(tmp_path / "env")
    assert "secret" not in str(caught.value)


# ------------------------------------------------------------------------------------------- manifests


def words(target: str, deployment: Deployment) -> list[str]:
    """The arguments of `realm serve` in a target's manifests."""
    rendered = RENDERERS[target](deployment)
    if target == "compose":
        found: list[str] = yaml.safe_load(rendered["compose.yaml"])["services"]["server"]["command"]
        return found
    if target == "kubernetes":
        pod = yaml.safe_load(rendered["deployment.yaml"])["spec"]["template"]["spec"]
        return list(pod["containers"][0]["args"])
    unit = rendered[f"realm-{deployment.name}@.service"]
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    command = shlex.split(line)
    assert Path(command[0]).is_file()
    assert command[1] == "serve"
    return command[2:]


@pytest.mark.parametrize("target", RENDERERS)
def test_every_flag_is_one_of_realm_serve(target: str, full: Deployment) -> None:
    arguments = words(target, full)
    known = {flag for option in serve.params for flag in (*option.opts, *option.secondary_opts)}
    flags = {word for word in arguments if word.startswith("--")}
    assert flags <= known
    check(arguments)
    parsed = serve.make_context("serve", list(arguments)).params
    assert (parsed["max_tenants"], parsed["wasm"], parsed["request_timeout"]) == (4, "v1", 30.5)
    assert (parsed["drain_grace"], parsed["drain_timeout"], parsed["log_format"]) == (2.5, 20.0, "json")
    assert parsed["auth"]
    assert parsed["api_keys"].name in ("keys", "keys.json")
    with pytest.raises(DeployError, match="No such option"):
        check([*arguments, "--no-such-flag"])


async def test_every_probe_is_a_route(start_server: Callable[..., Awaitable[Any]], full: Deployment) -> None:
    probed = set()
    for target, render in RENDERERS.items():
        text = "\n".join(render(full).values())
        found = set(re.findall(r"(?:path: |GET |:9090)(/[a-z]+)", text))
        assert found or target == "systemd"
        probed |= found
    assert probed == {probes.HEALTH, probes.READY, probes.METRICS}
    server = await start_server()
    async with aiohttp.ClientSession(server.url) as client:
        for path in probed:
            assert (await client.get(path)).status == 200, path


def test_compose_keeps_its_schema(full: Deployment, tmp_path: Path) -> None:
    rendered = RENDERERS["compose"](full)
    (tmp_path / "compose.yaml").write_text(rendered["compose.yaml"], "utf-8")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*command, str(tmp_path / "compose.yaml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout
    project = yaml.safe_load(rendered["compose.yaml"])
    server, proxy = project["services"]["server"], project["services"]["proxy"]
    assert server["deploy"]["replicas"] == 3
    assert server["stop_grace_period"] == "32s"
    assert server["environment"]["REALM_NOTE"] == 'a "quoted" 100% $$HOME \\ $$(X) note'
    (folder,) = (mount for mount in server["volumes"] if isinstance(mount, dict))
    assert (folder["source"], folder["target"]) == (str(tmp_path), server["working_dir"])
    arguments = serve.make_context("serve", list(server["command"])).params
    assert arguments["api_keys"] == Path(folder["target"]) / "keys.json"
    assert proxy["ports"] == ["127.0.0.1:8088:8080"]
    assert "server-template replica 3 server:8080" in rendered["haproxy.cfg"]
    assert f"httpchk GET {probes.READY}" in rendered["haproxy.cfg"]


def test_compose_sees_a_model_file_of_this_machine(tmp_path: Path) -> None:
    (tmp_path / "own.gguf").write_bytes(b"")
    (tmp_path / "d.toml").write_text("name = 'own'\nmodel = 'own.gguf'\nledger = 'l.db'", "utf-8")
    deployment = load(tmp_path / "d.toml")
    server = yaml.safe_load(RENDERERS["compose"](deployment)["compose.yaml"])["services"]["server"]
    arguments = serve.make_context("serve", server["command"]).params
    assert arguments["model"] == f"{server['working_dir']}/own.gguf"
    assert f"data:{arguments['ledger'].parent}" in server["volumes"]


def test_compose_sees_nothing_outside_of_its_folder(tmp_path: Path) -> None:
    (tmp_path / "keys.json").write_text("[]", "utf-8")
    (tmp_path / "in").mkdir()
    (tmp_path / "in/d.toml").write_text("name = 'own'\nmodel = 'm'\nkeys = '../keys.json'", "utf-8")
    done = run("compose", tmp_path / "in/d.toml", "--dry-run")
    assert done.exit_code == 2
    assert "containers see only" in done.output


def manifests(deployment: Deployment) -> Iterator[dict[str, Any]]:
    for name, text in RENDERERS["kubernetes"](deployment).items():
        if name.endswith(".yaml") and name != "kustomization.yaml":
            yield yaml.safe_load(text)


def test_kubernetes_keeps_its_schemas(full: Deployment) -> None:
    kinds = set()
    for manifest in manifests(full):
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        kinds.add(manifest["kind"])
    assert kinds == {"Deployment", "Service", "PodDisruptionBudget", "HorizontalPodAutoscaler"}


def test_the_parts_for_kubernetes_fit_together(full: Deployment) -> None:
    rendered = RENDERERS["kubernetes"](full)
    kustomization = yaml.safe_load(rendered["kustomization.yaml"])
    assert set(kustomization["resources"]) == {
        name for name in rendered if name.endswith(".yaml") and name != "kustomization.yaml"
    }
    generated = {secret["name"]: secret for secret in kustomization["secretGenerator"]}
    for secret in generated.values():
        for entry in (*secret.get("files", ()), *secret.get("envs", ())):
            assert entry.rpartition("=")[2] in rendered
    found = {manifest["kind"]: manifest for manifest in manifests(full)}
    template = found["Deployment"]["spec"]["template"]
    pod, (container,) = template["spec"], template["spec"]["containers"]
    for kind in ("Service", "PodDisruptionBudget"):
        selector = found[kind]["spec"]["selector"]
        assert template["metadata"]["labels"].items() >= selector.get("matchLabels", selector).items()
    assert pod["terminationGracePeriodSeconds"] >= full.drain_grace + full.drain_timeout
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    arguments = serve.make_context("serve", list(container["args"])).params
    assert ports == {"api": arguments["http_port"], "operations": arguments["metrics_port"]}
    probed = {container[f"{kind}Probe"]["httpGet"]["port"] for kind in ("startup", "readiness", "liveness")}
    assert probed == {"operations"}
    mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert str(arguments["api_keys"].parent) == mounted["files"]
    secret = next(volume["secret"]["secretName"] for volume in pod["volumes"] if volume["name"] == "files")
    assert {secret, container["envFrom"][0]["secretRef"]["name"]} == set(generated)
    assert container["env"][0]["value"] == 'a "quoted" 100% $HOME \\ $$(X) note'
    assert "replicas" not in found["Deployment"]["spec"], "the number is the autoscaler's"
    assert pod["enableServiceLinks"] is False
    assert found["HorizontalPodAutoscaler"]["spec"]["minReplicas"] == 3


@pytest.mark.parametrize("line", ["model = 'own.gguf'", "model = 'm'\nledger = 'l.db'"])
def test_what_a_pod_cannot_have_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "own.gguf").write_bytes(b"")
    (tmp_path / "d.toml").write_text(f"name = 'own'\n{line}", "utf-8")
    done = run("kubernetes", tmp_path / "d.toml", "--dry-run")
    assert done.exit_code == 2
    assert len(done.output.splitlines()) == 1


# systemd.unit(5), systemd.socket(5), systemd.service(5), systemd.exec(5), systemd.kill(5),
# systemd.resource-control(5): the directives that are used, by section.
DIRECTIVES = {
    "Unit": {"Description", "PartOf", "Requires", "After", "Wants"},
    "Socket": {"ListenStream", "Backlog", "Service"},
    "Service": {
        "Type", "Sockets", "ExecStart", "ExecReload", "Restart", "RestartSec", "KillSignal", "KillMode",
        "TimeoutStopSec", "WorkingDirectory", "Environment", "EnvironmentFile", "CacheDirectory",
        "StateDirectory", "DynamicUser", "User", "MemoryMax", "CPUQuota", "LimitNOFILE", "NoNewPrivileges",
        "PrivateTmp", "PrivateDevices", "ProtectSystem", "ProtectHome", "ProtectKernelTunables",
        "ProtectKernelModules", "ProtectControlGroups", "RestrictAddressFamilies", "RestrictNamespaces",
        "RestrictRealtime", "RestrictSUIDSGID", "LockPersonality", "CapabilityBoundingSet",
        "SystemCallArchitectures",
    },
    "Install": {"WantedBy"},
}  # fmt: skip


def directives(text: str) -> Iterator[tuple[str, str, str]]:
    """(section, directive, value) of each line of a unit; strict about everything else."""
    section = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        if head := re.fullmatch(r"\[(\w+)\]", line):
            section = head[1]
            continue
        assert section is not None
        name, equals, value = line.partition("=")
        assert equals, line
        yield section, name, value


def test_systemd_units_have_only_known_directives(full: Deployment, tmp_path: Path) -> None:
    units = RENDERERS["systemd"](full)
    for name, text in units.items():
        for section, directive, _ in directives(text):
            assert directive in DIRECTIVES[section], f"{name}: {section}.{directive}"
        path = tmp_path / "units" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    if (analyze := shutil.which("systemd-analyze")) is not None:
        named = [name for name in units if "/" not in name and "@" not in name]
        command = [analyze, "verify", "--man=no", "./realm-chat@1.service", *(f"./{name}" for name in named)]
        done = subprocess.run(command, cwd=tmp_path / "units", capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


def test_systemd_instances_share_the_socket(full: Deployment) -> None:
    units = RENDERERS["systemd"](full)
    service = {name: value for _, name, value in directives(units["realm-chat@.service"])}
    socket = {name: value for _, name, value in directives(units["realm-chat.socket"])}
    target = {name: value for _, name, value in directives(units["realm-chat.target"])}
    assert service["Sockets"] == "realm-chat.socket"
    assert socket["ListenStream"] == "127.0.0.1:8088"
    assert target["Wants"].split() == [f"realm-chat@{number}.service" for number in (1, 2, 3)]
    assert "--fd 3 " in service["ExecStart"]
    assert int(service["TimeoutStopSec"]) >= full.drain_grace + full.drain_timeout
    environment = [
        value for _, name, value in directives(units["realm-chat@.service"]) if name == "Environment"
    ]
    assert r'"REALM_NOTE=a \"quoted\" 100%% $HOME \\ $(X) note"' in environment
    ports = [units[f"realm-chat@{number}.service.d/port.conf"] for number in (1, 2, 3)]
    variables = [re.search(r"REALM_SERVE_([A-Z_]+)=(\d+)", port) for port in ports]
    assert [found and found[2] for found in variables] == ["9200", "9201", "9202"]
    assert {found and found[1].lower() for found in variables} <= {option.name for option in serve.params}


@pytest.mark.parametrize("target", RENDERERS)
def test_writing_and_what_would_change(target: str, full: Deployment, folder: Path) -> None:
    file, output = folder / "chat.toml", folder / "out"
    fresh = run(target, file, "--output", output, "--dry-run")
    assert fresh.exit_code == 0
    assert not output.exists()
    assert run(target, file, "--output", output).exit_code == 0
    assert run(target, file, "--output", output, "--dry-run").output == "Nothing would change.\n"
    file.write_text(FULL.replace("max-tenants = 4", "max-tenants = 5"), "utf-8")
    (folder / "realm.env").write_text("TOKEN=other\n", "utf-8")
    changed = run(target, file, "--output", output, "--dry-run").output
    assert "--- " in changed
    assert all("hush" not in text and "other\n" not in text for text in (fresh.output, changed))
    for secret in output.glob("secrets/*"):
        assert secret.stat().st_mode & 0o077 == 0
