"""Runs on a node, by the Python that is there, and prints as JSON all that the checks look at. It changes nothing."""

from __future__ import annotations

import base64
import glob
import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from typing import Any

MICROK8S_DATA = "/var/snap/microk8s/current"
MICROK8S = "snap.microk8s.daemon-kubelite"
K3S = ("k3s", "k3s-agent")
K3S_DATA = "/var/lib/rancher/k3s"
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy")
RUNS, MARKS = "/var/lib/kubekeel/runs", "/run/kubekeel"
SYSCTLS = ("/etc/sysctl.d", "/run/sysctl.d", "/usr/local/lib/sysctl.d", "/usr/lib/sysctl.d", "/lib/sysctl.d")
WRITTEN = (
    "/etc/sysctl.d",
    "/etc/modules-load.d",
    "/etc/default",
    "/etc/systemd/system/*.d",
    "/etc/rancher/k3s",
    "/etc/rancher/k3s/config.yaml.d",
    "/etc/cni/net.d",
    f"{K3S_DATA}/agent/etc/cni/net.d",
)
"""Folders in which kubekeel writes."""
KUBECTL_TIMEOUT = 20
PROXY_ADDRESS = "127.0.0.1:10249"


def run(*words: str, timeout: float = 60) -> tuple[int, str, str]:
    """Run a program; return its exit code, output and errors."""
    try:
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, "", str(error)
    return done.returncode, done.stdout.decode("utf-8", "replace"), done.stderr.decode("utf-8", "replace")


def read(path: str) -> str | None:
    """Return the text of a file, None where it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except (OSError, ValueError):
        return None


def words_of(pid: str, name: str) -> list[str]:
    """Return the words of a file of a process that a byte 0 ends each."""
    return [word for word in (read("/proc/%s/%s" % (pid, name)) or "").split("\0") if word]


def show(unit: str) -> dict[str, str]:
    """Return what systemd says of a unit."""
    names = "LoadState,ActiveState,SubState,MainPID,NRestarts,InvocationID,ExecMainStartTimestampMonotonic"
    _code, out, _err = run("systemctl", "show", unit, "--property=" + names)
    return dict(line.partition("=")[::2] for line in out.splitlines())


def find_unit(asked: str) -> tuple[str, str]:
    """Return distribution and unit of this node, empty where there is none; of two the one that runs."""
    if asked != "k3s" and os.path.isdir(MICROK8S_DATA + "/args"):
        return "microk8s", MICROK8S
    if asked != "microk8s":
        found = {unit: state for unit, state in ((unit, show(unit)) for unit in K3S) if state.get("LoadState") == "loaded"}
        running = [unit for unit, state in found.items() if state.get("ActiveState") != "inactive"]
        for unit in [*running, *found]:
            return "k3s", unit
    return "", ""


def processes(main: str) -> dict[str, list[str]]:
    """Return the command lines of the components that run as processes of their own in the control group of a unit."""
    found = {}
    group = read("/proc/%s/cgroup" % main)
    for pid in os.listdir("/proc") if group else ():
        if pid.isdigit() and read("/proc/%s/cgroup" % pid) == group:
            command = words_of(pid, "cmdline")
            name = os.path.basename(command[0]) if command else ""
            if name in COMPONENTS:
                found[name] = command[1:]
    return found


def microk8s_components(state: dict[str, str]) -> dict[str, Any]:
    """Return what the components of kubelite run with: their own processes, or the files that kubelite read as it started."""
    separate = processes(state["MainPID"])
    main = words_of(state["MainPID"], "cmdline")
    given = dict(word.lstrip("-").partition("=")[::2] for word in main[1:])
    controls = given.get("start-control-plane", "true") != "false"
    found: dict[str, Any] = {}
    for name in COMPONENTS if main else ():
        path = given.get(name.replace("kube-", "") + "-args-file") or "%s/args/%s" % (MICROK8S_DATA, name)
        if name in separate:
            found[name] = {"words": separate[name]}
        elif not separate and os.path.basename(main[0]) == "kubelite" and (controls or name in ("kubelet", "kube-proxy")):
            text = read(path)
            if text is not None:
                found[name] = {"text": text, "path": path, "written": os.stat(path).st_mtime}
    return found


def k3s_components(state: dict[str, str]) -> tuple[dict[str, Any], str]:
    """Return what K3s logged since its start that its components run with, and what kept the log from being read."""
    names = "|".join(COMPONENTS)
    _code, out, err = run(
        "journalctl", "_SYSTEMD_INVOCATION_ID=" + state["InvocationID"], "--output=cat", "--no-pager", "--grep=Running (%s|etcd) -" % names
    )
    found = {}
    for line in out.splitlines():
        told = re.search(r"(?:^|[\"\s])Running (%s|etcd) (-.*)" % names, line)
        if told:
            text = told.group(2).rstrip()
            if 'msg="Running' in line:
                # logrus writes the message between quotes, and quotes within as \".
                text = text[: -len('"')].replace('\\"', '"')
            found[told.group(1)] = {"words": text.split()}
    # Components start within seconds: where one is told of, all are that run.
    problem = "" if found else err.strip() or "the journal no longer holds what K3s logged as it started"
    client = [word for one in found.values() for word in one["words"] if word.startswith("--client-ca-file=")]
    data = next((word.partition("=")[2].partition("/agent/")[0] for word in client if "/agent/" in word), K3S_DATA)
    # K3s gives etcd its flags in a file, which it writes at each start.
    text = read(data + "/server/db/etcd/config")
    if text is not None and "etcd" not in found:
        settings = re.findall(r"^([a-z][a-z-]*): ([^\n]+)$", text, re.MULTILINE)
        found["etcd"] = {"words": ["--%s=%s" % (name, value.strip().strip("\"'")) for name, value in settings]}
    return found, problem


def proxy_mode(components: dict[str, Any]) -> str | None:
    """Return the mode that kube-proxy says it is in, None where it does not answer."""
    words = components.get("kube-proxy", {}).get("words") or []
    given = [word.partition("=")[2] for word in words if word.startswith("--metrics-bind-address=")]
    address = (given or [PROXY_ADDRESS])[-1].replace("0.0.0.0:", "127.0.0.1:")
    try:
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open("http://%s/proxyMode" % address, timeout=5) as answer:
            return str(answer.read(100).decode("ascii", "replace").strip())
    except (OSError, ValueError):
        return None


def kubectl(distribution: str, *words: str) -> tuple[Any, str]:
    """Return what kubectl prints as JSON, or why it does not."""
    code, out, err = run(
        distribution, "kubectl", "--request-timeout=%ds" % KUBECTL_TIMEOUT, *words, "-o", "json", timeout=3 * KUBECTL_TIMEOUT
    )
    try:
        return (json.loads(out), "") if not code else (None, (err.strip().splitlines() or ["kubectl failed"])[-1])
    except ValueError as error:
        return None, "kubectl printed no JSON: %s" % error


def api(distribution: str) -> dict[str, Any]:
    """Return what the API server of this node says of nodes and Leases."""
    asked = (["nodes"], ["leases", "--namespace=kube-node-lease"], ["leases", "--namespace=kube-system"])
    with ThreadPoolExecutor(max_workers=len(asked)) as pool:
        answers = list(pool.map(lambda words: kubectl(distribution, "get", *words), asked))
    why = [problem for _answer, problem in answers if problem]
    if why:
        return {"problem": why[0]}
    nodes, leases, leaders = (answer for answer, _problem in answers)
    return {
        "now": time.time(),
        "nodes": {
            item["metadata"]["name"]: {
                "conditions": {one["type"]: one["status"] for one in item["status"].get("conditions", ())},
                "release": item["status"].get("nodeInfo", {}).get("kubeletVersion", ""),
                "has_etcd": "node-role.kubernetes.io/etcd" in item["metadata"].get("labels", {}),
            }
            for item in nodes["items"]
        },
        "leases": {item["metadata"]["name"]: item["spec"] for item in leases["items"]},
        "leaders": {item["metadata"]["name"]: item["spec"] for item in leaders["items"] if item["metadata"]["name"] in COMPONENTS},
    }


def stat(path: str) -> dict[str, Any] | None:
    """Return owner, group and mode of a file, None where there is none."""
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return {"owner": found.st_uid, "group": found.st_gid, "mode": found.st_mode & 0o7777}


def runs() -> list[dict[str, Any]]:
    """Return the records of kubekeel's runs."""
    found = []
    for folder in sorted(glob.glob(RUNS + "/*")):
        try:
            record = json.loads(read(folder + "/record.json") or "null")
        except ValueError:
            record = None
        record = record if isinstance(record, dict) else {}
        found.append(
            {
                "run": os.path.basename(folder),
                "readable": bool(record),
                "state": record.get("state"),
                "began": (record.get("about") or {}).get("began", ""),
                "files": {one["name"]: one["mode"] for one in record.get("entries", ()) if one.get("kind") == "file"},
                "places": {path: stat(path) for path in [folder, *glob.glob(folder + "/*")]},
            }
        )
    return found


def mark(unit: str) -> dict[str, Any] | None:
    """Return when the settings of the unit were changed last, in microseconds since the boot, and by which runs."""
    moment, *names = (read("%s/%s" % (MARKS, unit)) or "").split() or [""]
    return {"moment": int(moment), "runs": names} if moment.isdigit() else None


def collect(asked: dict[str, Any]) -> dict[str, Any]:
    """Return everything.

    Args:
        asked: C(distribution) (k3s, microk8s or auto), C(sysctls) and C(environment), names.
    """
    distribution, unit = find_unit(asked["distribution"])
    found: dict[str, Any] = {"distribution": distribution, "unit": unit, "host_name": socket.gethostname(), "now": time.time()}
    if not unit:
        return found
    state = show(unit)
    components, log_problem = k3s_components(state) if distribution == "k3s" else (microk8s_components(state), "")
    environment = dict(word.partition("=")[::2] for word in words_of(state["MainPID"], "environ"))
    started = int(state.get("ExecMainStartTimestampMonotonic") or 0)
    files = ["/etc/sysctl.d/99-zz-kubekeel.conf"]
    if distribution == "k3s":
        files += ["/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/zz-kubekeel.yaml", "/etc/default/" + unit]
    else:
        files += ["%s/args/%s" % (MICROK8S_DATA, name) for name in COMPONENTS]
        files += ["/etc/systemd/system/%s.service.d/zz-kubekeel.conf" % unit]
    folders = [*WRITTEN, MICROK8S_DATA + "/args", MICROK8S_DATA + "/args/cni-network", RUNS + "/*", MARKS]
    boot = [path for folder in SYSCTLS for path in glob.glob(folder + "/*.conf")]
    found.update(
        state={name: state.get(name, "") for name in ("ActiveState", "SubState", "NRestarts")},
        started=started,
        started_at=time.time() - (time.clock_gettime(time.CLOCK_MONOTONIC) - started / 1e6),
        components=components,
        log_problem=log_problem,
        environment={name: environment.get(name) for name in asked["environment"]},
        sysctls={name: read("/proc/sys/" + name.translate(str.maketrans("./", "/."))) for name in asked["sysctls"]},
        boot={path: read(path) or "" for path in boot},
        proxy_mode=proxy_mode(components),
        files={path: stat(path) for path in files},
        leftovers=sorted(path for folder in folders for path in glob.glob(folder + "/.*.kubekeel")),
        runs=runs(),
        mark=mark(unit),
        api=api(distribution) if "kube-apiserver" in components else None,
    )
    return found


if __name__ == "__main__":
    print(json.dumps(collect(json.loads(base64.b64decode(sys.argv[1])))))
