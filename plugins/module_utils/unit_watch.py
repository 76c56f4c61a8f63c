"""A unit that was told to start: does it come up, does it live on, and if not, what did it log?"""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import http.client
import time
import urllib.error
from typing import TYPE_CHECKING, Callable

from ansible.module_utils.urls import open_url
from ansible_collections.kubekeel.ha.plugins.module_utils import kube_api, systemd, unit_log
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError

if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

STATE = ("ActiveState", "SubState", "MainPID", "NRestarts", "Job")
POLL = 0.5


def answers(url: str) -> bool:
    """Tell whether a server answers, be it with a refusal."""
    try:
        open_url(url, timeout=2, validate_certs=False, use_proxy=False)
    except urllib.error.HTTPError as error:
        return error.code in (401, 403)
    except ValueError as error:
        raise NodeError("ready_url: %s" % error) from error
    except (OSError, http.client.HTTPException):
        return False
    return True


def api_ready(kubeconfig: str) -> bool:
    """Tell whether the API server of a kubeconfig says that it is ready. Without a certificate some say nothing of it."""
    try:
        credentials = kube_api.Credentials(kubeconfig)
        kube_api.get(credentials, credentials.host, "/readyz", 2)
    except (NodeError, kube_api.ApiError):
        return False
    return True


def at_once() -> bool:
    """Tell that nothing has to be waited for."""
    return True


def watch(module: AnsibleModule, unit: str, old: str, ready: Callable[[], bool], length: float, timeout: float) -> str | None:
    """Watch a unit that was told to start, until it has come up and lived on. Return why it did not, None where it did.

    Args:
        module: to run systemctl.
        unit: the unit.
        old: id of the main process of before.
        ready: tells whether what the unit runs has come up.
        length: for how many seconds it must not die after that.
        timeout: for how many seconds to wait for that.

    Raises:
        NodeError: there is no such unit.
    """
    patience = time.monotonic() + timeout
    process = ready_since = None
    while True:
        state = systemd.show(module, unit, *STATE)
        now = time.monotonic()
        # As long as systemd has the order in its queue, what it shows may still be of before.
        ordered = state.get("Job", "0") not in ("", "0")
        if not ordered and (state["NRestarts"] != "0" or state["SubState"] == "auto-restart" or process not in (None, state["MainPID"])):
            return "its main process died"
        if state["ActiveState"] == "active" and state["MainPID"] != old and not ordered:
            process = state["MainPID"]
            if ready_since is None and ready():
                ready_since = now
        elif not ordered and state["ActiveState"] not in ("activating", "deactivating"):
            return "it is %s" % state["ActiveState"]
        if ready_since is not None and now - ready_since >= length:
            return None
        if ready_since is None and now > patience:
            silent = "its API server is not ready" if process else "it is %s" % state["ActiveState"]
            return "%s after %d s" % (silent, timeout)
        time.sleep(POLL)


def log_since(module: AnsibleModule, unit: str, start: float) -> list[str]:
    """Return the lines that tell most of what a unit logged since C(start), in seconds of the Unix epoch."""
    command = ["journalctl", "--unit", unit, "--since", "@%d" % start, "--output", "cat", "--no-pager"]
    return unit_log.telling_lines(module.run_command(command)[1].splitlines())
