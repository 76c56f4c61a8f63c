"""Files, answers and variables that are nearly right, by the thousand: ``pytest tests/fuzz``; KUBEKEEL_FUZZ=10 makes ten times as many.

The lab's own are broken at random, and given to readers, filters, and modules as Ansible runs them. Each time there has to be a
right result or a sentence for the operator, and never a traceback, half a file, a secret, or no end. What was found stands as
plain tests in tests/unit.
"""

import os
import pathlib
from collections.abc import Callable, Iterator

import pytest
from ansible.module_utils import basic
from ansible_collections.kubekeel.ha.plugins.module_utils import (
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
from .node import Node

__all__ = ["generated", "node", "run_module"]


@pytest.fixture(scope="session", autouse=True)
def generated(pytestconfig: pytest.Config) -> Iterator[None]:
    """Say at the end how much was generated."""
    yield
    terminal = pytestconfig.pluginmanager.get_plugin("terminalreporter")
    for line in ("", *(f"{count:7d} {name}" for name, count in GENERATED.items()), f"{sum(GENERATED.values()):7d} inputs"):
        terminal.write_line(line)


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
    monkeypatch.setattr(microk8s, "SNAP_YAML", str(made.etc / "snap.yaml"))
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
    monkeypatch.setattr(kube_api, "Credentials", lambda _path: None)
    monkeypatch.setattr(kube_api, "get_json", _nobody(kube_api.ApiError))
    monkeypatch.setattr(etcd_client, "members", _nobody(etcd_client.EtcdError))
    return made


def _nobody(error: type[Exception]) -> Callable[..., None]:
    def answers(*_: object) -> None:
        raise error("nobody answers")

    return answers
