"""Files, answers and variables that are nearly right, by the thousand: ``pytest tests/fuzz``; KUBEKEEL_FUZZ=10 makes ten times as many.

The lab's own are broken at random, and given to readers, filters, and modules as Ansible runs them. Each time there has to be a
right result or a sentence for the operator, and never a traceback, half a file, a secret, or no end. What was found stands as
plain tests in tests/unit.
"""

import os
import pathlib
import subprocess
from types import SimpleNamespace

import pytest
from ansible.module_utils import basic
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    distribution,
    etcd_client,
    k3s,
    k3s_supervisor,
    kube_api,
    microk8s,
    node_files,
    running_kernel,
    sysctl_files,
    systemd,
)
from ansible_collections.kubekeel.ha.plugins.modules import k3s_lb_state, k3s_registration, kubelet_configuration, service_environment

from ..unit.conftest import RunModule, run_module
from .inputs import GENERATED
from .node import HOSTS, Node, Session

__all__ = ["node", "run_module"]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say at the end how much was generated."""
    terminalreporter.section("inputs")
    for line in (*(f"{count:7d} {name}" for name, count in GENERATED.items()), f"{sum(GENERATED.values()):7d} inputs"):
        terminalreporter.write_line(line)


@pytest.fixture
def node(tmp_path: pathlib.Path, run_module: RunModule, monkeypatch: pytest.MonkeyPatch) -> Node:
    made = Node(tmp_path, run_module)
    # A damaged record, or a unit, may name any file.
    monkeypatch.chdir(tmp_path)
    for name in ("write", "remove", "make_folder"):
        monkeypatch.setattr(node_files, name, made.confined(getattr(node_files, name)))
    monkeypatch.setattr(k3s, "CONFIG_FILE", str(made.etc / "config.yaml"))
    monkeypatch.setattr(os, "fsync", made.fsync)
    monkeypatch.setattr(basic.AnsibleModule, "warn", lambda _module, text: made.warnings.append(text))
    monkeypatch.setattr(basic.AnsibleModule, "run_command", lambda _module, words, **_: made.command(words))
    monkeypatch.setattr(systemd, "show", made.show)
    monkeypatch.setattr(basic.AnsibleModule, "get_bin_path", lambda _module, name, **_: f"/bin/{name}")
    monkeypatch.setattr(subprocess, "run", made.program)
    monkeypatch.setattr(microk8s, "SNAP_YAML", str(made.etc / "snap.yaml"))
    monkeypatch.setattr(distribution.find, "__defaults__", (str(made.etc / "args"),))
    monkeypatch.setattr(service_environment, "DEFAULTS", str(made.etc / "default"))
    monkeypatch.setattr(service_environment, "DROP_INS", str(made.etc / "units"))
    monkeypatch.setattr(sysctl_files, "FOLDERS", (str(made.etc / "sysctl.d"), str(made.etc / "lib")))
    monkeypatch.setattr(sysctl_files, "proc_path", lambda name: f"{made.proc}/{name.translate(str.maketrans('./', '/.'))}")
    monkeypatch.setattr(running_kernel, "modules", lambda *_: frozenset(["ip_vs"]))
    monkeypatch.setattr(kubelet_configuration, "K3S_FILE", str(made.etc / "kubekeel-kubelet.yaml"))
    # Nothing here has a network.
    monkeypatch.setattr(k3s_registration, "resolve", lambda _url: [])
    monkeypatch.setattr(k3s_supervisor, "why_unfit", lambda *_, **__: "")
    monkeypatch.setattr(k3s_lb_state, "accepts", lambda address: len(address) % 2 == 0)
    monkeypatch.setattr(kube_api, "Credentials", lambda _path: SimpleNamespace(host=HOSTS[0]))
    monkeypatch.setattr(kube_api, "Session", lambda _api, host, *_: Session(made.cluster, host))
    monkeypatch.setattr(etcd_client, "_call", lambda _api, _url, path, _timeout: made.cluster.call(path))
    return made
