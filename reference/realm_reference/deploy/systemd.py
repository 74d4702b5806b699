"""`realm deploy systemd`: one socket, a template service whose instances share it, a target for all of it."""

from __future__ import annotations

from typing import Final

from realm_reference.deploy.arguments import serve_arguments
from realm_reference.deploy.deployment import Deployment
from realm_reference.deploy.files import Rendered
from realm_reference.deploy.local.launch import realm

_NOTE: Final = "# Written by `realm deploy systemd`; changes are lost.\n"

# Every instance names the socket, so systemd hands the same one to each; it stays open whatever becomes of
# them, and no connection is lost while one restarts.
_SOCKET: Final = """\
[Unit]
Description=Socket of {name}

[Socket]
ListenStream={host}:{port}
Backlog=1024
Service={unit}@1.service

[Install]
WantedBy=sockets.target
"""

_SERVICE: Final = """\
[Unit]
Description=Replica %i of {name}
PartOf={unit}.target
Requires={unit}.socket
After={unit}.socket network-online.target
Wants=network-online.target

[Service]
Type=exec
WorkingDirectory={folder}
Sockets={unit}.socket
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
Restart=on-failure
RestartSec=1
KillSignal=SIGTERM
KillMode=mixed
TimeoutStopSec={stop_seconds}
{environment}Environment=REALM_CACHE=%C/realm
CacheDirectory=realm
StateDirectory=realm
DynamicUser=yes
User={unit}
MemoryMax={memory}
CPUQuota={cpu_percent}%
LimitNOFILE=65536
NoNewPrivileges=yes
PrivateTmp=yes
PrivateDevices=yes
ProtectSystem=strict
ProtectHome=read-only
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
LockPersonality=yes
CapabilityBoundingSet=
SystemCallArchitectures=native
# Not MemoryDenyWriteExecute: guests are compiled to machine code.

[Install]
WantedBy={unit}.target
"""

_INSTANCE: Final = """\
[Service]
Environment=REALM_SERVE_METRICS_PORT={port}
"""

_TARGET: Final = """\
[Unit]
Description={name}: {replicas} replicas
Wants={instances}

[Install]
WantedBy=multi-user.target
"""


def render(deployment: Deployment) -> Rendered:
    """The units, and for each instance a drop-in with its own port for operations."""
    unit = f"realm-{deployment.name}"
    instances = [f"{unit}@{number}.service" for number in range(1, deployment.replicas + 1)]
    common = {"name": deployment.name, "unit": unit}
    socket = _SOCKET.format(host=_bracketed(deployment.host), port=deployment.port, **common)
    target = _TARGET.format(replicas=deployment.replicas, instances=" ".join(instances), **common)
    units = {
        f"{unit}.socket": _NOTE + socket,
        f"{unit}@.service": _NOTE + _service(deployment, unit),
        f"{unit}.target": _NOTE + target,
    }
    for number, instance in enumerate(instances):
        port = deployment.metrics_port + number
        units[f"{instance}.d/port.conf"] = _NOTE + _INSTANCE.format(port=port)
    return units


def _service(deployment: Deployment, unit: str) -> str:
    environment = [f"Environment={_quoted(f'{name}={value}')}" for name, value in deployment.env.items()]
    if deployment.env_file is not None:
        environment.append(f"EnvironmentFile={_plain(str(deployment.env_file))}")
    arguments = serve_arguments(
        deployment,
        model=str(deployment.model_file or deployment.model),
        listen=("--host", deployment.host, "--fd", "3"),
        # The files themselves and not credentials, which are copies: a key that is disabled is so at once.
        keys=str(deployment.keys) if deployment.keys else None,
        tenants=str(deployment.tenants) if deployment.tenants else None,
        ledger=f"@state@/{deployment.ledger.name}" if deployment.ledger else None,
    )
    command = " ".join(_quoted(word).replace("$", "$$") for word in [*realm(), "serve", *arguments])
    return _SERVICE.format(
        name=deployment.name,
        unit=unit,
        folder=_plain(str(deployment.folder)),
        command=command.replace("@state@", "%S/realm"),
        stop_seconds=deployment.stop_seconds,
        environment="".join(f"{line}\n" for line in environment),
        memory=deployment.memory.removesuffix("i"),
        cpu_percent=round(deployment.cpus * 100),
    )


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _plain(text: str) -> str:
    """% begins a specifier."""
    return text.replace("%", "%%")


def _quoted(text: str) -> str:
    """A word of a command line or of an assignment."""
    escaped = _plain(text)
    if not any(character in escaped for character in " \t\"'\\;"):
        return escaped
    return '"' + escaped.replace("\\", "\\\\").replace('"', '\\"') + '"'
