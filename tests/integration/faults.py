"""What goes wrong in the middle of a remediation, and how it is put right again. Everything strikes the lab for real."""

import contextlib
import functools
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .conftest import Cluster, wait_for

DATA = "/var/snap/microk8s/current"
ARGS = f"{DATA}/args"
RUNS = "/var/lib/kubekeel"
AHEAD = "/usr/local/bin/python-ahead"
"""An interpreter whose clock is ten minutes ahead: the nodes of the lab have no clocks of their own."""

BEGIN, STAGE, GATE = "Note what begins here", "Set the HTTP/2 time-outs", "Make sure that the cluster may lose a server now"
RESTART, AFTER, SURVEY = "Restart and see whether it stays up", "Wait until the cluster may lose a server again", "Learn what the node runs"
STEPS = {SURVEY: "survey", BEGIN: "begin", STAGE: "staging", GATE: "gate", RESTART: "restart", AFTER: "gate after"}
"""Tasks of a remediation in their order, and what they are called here."""


@dataclass
class Struck:
    """A remediation that a fault strikes."""

    cluster: Cluster
    victim: str
    """The server that is remediated."""
    other: str
    """The server that is asked about the cluster meanwhile."""
    process: subprocess.Popen[str]

    def where(self, step: str) -> str:
        """The server on which the module of a step runs."""
        return self.other if step in (GATE, AFTER) else self.victim


Strike = Callable[[Struck, str], None]


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong at a step."""

    name: str
    steps: tuple[str, ...]
    """Tasks at whose begin it strikes. Where not all are tried it is the first one."""
    strike: Strike
    heal: Strike = lambda _struck, _step: None
    lost: str = ""
    """Whether it takes away the server called so."""
    ends_controller: bool = False
    refused: bool = False
    """Whether nothing may be changed."""
    mended: bool = False
    """Whether the run has to bring its node back itself."""
    interpreter: str = ""
    """What runs modules on the victim."""
    much_like: str = ""
    """Another fault that is tried in its place, where not all are."""


def kill_controller(struck: Struck, _step: str) -> None:
    os.killpg(struck.process.pid, signal.SIGKILL)


def kill(pattern: str, after: float = 0) -> Strike:
    """As soon as there is such a process, for a few seconds."""
    command = f"sleep {after}; for _ in $(seq 60); do pkill -9 -f {shlex.quote(pattern)} && exit 0; sleep 0.1; done; exit 1"
    return lambda struck, step: shell(struck, struck.where(step), command)


def shell(struck: Struck, node: str, command: str) -> None:
    struck.cluster.on(node, "sh", "-c", command)


@contextlib.contextmanager
def held(struck: Struck) -> Iterator[None]:
    """Hold the run for as long as the block takes: what is broken then is broken before its next step, on a slow machine, too."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(struck.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(struck.process.pid, signal.SIGCONT)


def power(verb: str, which: str) -> Strike:
    def strike(struck: Struck, step: str) -> None:
        if step == AFTER:
            wait_for("the server that restarted", lambda: struck.cluster.answers(struck.victim), 30)
        struck.cluster.lab(verb, "--name", struck.cluster.name, getattr(struck, which))

    return strike


def on(which: str, command: str) -> Strike:
    def strike(struck: Struck, _step: str) -> None:
        with held(struck):
            shell(struck, getattr(struck, which), command)

    return strike


on_victim, on_other = functools.partial(on, "victim"), functools.partial(on, "other")


def full(folder: str) -> tuple[Strike, Strike]:
    """A small file system with what was there, and no room for more; and back, with what is there then."""
    fill = (
        f"cp -a {folder} /run/kept && mount -t tmpfs -o size=512k,mode=$(stat -c %a {folder}) full {folder} && cp -a /run/kept/. {folder}/"
    )
    free = f"rm {folder}/filler; rm -r /run/kept; cp -a {folder} /run/kept && umount {folder}"
    return (
        on_victim(f"{fill} && {{ dd if=/dev/zero of={folder}/filler bs=512 2>/dev/null; true; }}"),
        on_victim(f"{free} && cp -a /run/kept/. {folder}/ && rm -r /run/kept"),
    )


def read_only(folder: str) -> tuple[Strike, Strike]:
    return on_victim(f"mount --bind {folder} {folder} && mount -o remount,bind,ro {folder}"), on_victim(f"umount {folder}")


HANG = "printf '#!/bin/sh\\nexec sleep 600\\n' > /run/hang && chmod 755 /run/hang && mount --bind /run/hang /usr/bin/microk8s"
# Signed by the cluster's authority, for no day.
EXPIRED = (
    "cd /run && openssl req -newkey rsa:2048 -nodes -keyout old.key -out old.csr -subj /O=system:masters/CN=admin 2>/dev/null"
    f" && openssl x509 -req -in old.csr -CA {DATA}/certs/ca.crt -CAkey {DATA}/certs/ca.key -set_serial 7 -days 0 -out old.crt 2>/dev/null"
    ' && sed -e "s|client-certificate-data:.*|client-certificate-data: $(base64 -w0 old.crt)|"'
    f' -e "s|client-key-data:.*|client-key-data: $(base64 -w0 old.key)|" {DATA}/credentials/client.config > old.config'
    f" && mount --bind old.config {DATA}/credentials/client.config"
)
INTERPRETER_AHEAD = (
    "mkdir -p /usr/local/lib/ahead && printf 'import time\\nreal = time.time\\ntime.time = lambda: real() + 600\\n'"
    " > /usr/local/lib/ahead/sitecustomize.py"
    f" && printf '#!/bin/sh\\nexec env PYTHONPATH=/usr/local/lib/ahead /usr/bin/python3 \"$@\"\\n' > {AHEAD} && chmod 755 {AHEAD}"
)

FAULTS = (
    Fault("controller killed", (RESTART, STAGE, GATE, AFTER), kill_controller, ends_controller=True),
    Fault("SSH session killed", (RESTART, STAGE, GATE, AFTER), kill("^sshd: operator", after=2), much_like="controller killed"),
    Fault("module killed", (STAGE, GATE, RESTART, AFTER), kill("^/usr/bin/python3$")),
    Fault("power cut of the node", (STAGE, GATE, RESTART, AFTER), power("power-off", "victim"), power("power-on", "victim"), "victim"),
    Fault("power cut of another server", (AFTER, STAGE, GATE, RESTART), power("power-off", "other"), power("power-on", "other"), "other"),
    Fault("disk full: argument files", (BEGIN,), *full(ARGS), mended=True),
    Fault("disk full: records", (BEGIN,), *full(RUNS), mended=True, much_like="disk full: argument files"),
    Fault("disk full: sysctl.d", (BEGIN,), *full("/etc/sysctl.d"), mended=True, much_like="disk full: argument files"),
    Fault("read-only: argument files", (BEGIN,), *read_only(ARGS), mended=True, much_like="disk full: argument files"),
    Fault("read-only: sysctl.d", (BEGIN,), *read_only("/etc/sysctl.d"), mended=True, much_like="disk full: argument files"),
    Fault(
        "status hangs",
        (STAGE, AFTER),
        on_other(HANG),
        on_other("umount /usr/bin/microk8s; pkill -x sleep; true"),
        much_like="API server answers 500",
    ),
    Fault(
        "API server answers 500",
        (STAGE, AFTER),
        on_other("systemctl stop snap.microk8s.daemon-k8s-dqlite"),
        on_other("systemctl start snap.microk8s.daemon-k8s-dqlite"),
        "other",
    ),
    Fault(
        "certificate expired",
        (STAGE, AFTER),
        on_other(EXPIRED),
        on_other(f"umount {DATA}/credentials/client.config"),
        much_like="API server answers 500",
    ),
    Fault("clock ten minutes ahead", (SURVEY,), on_victim("true"), refused=True, interpreter=AHEAD),
)
