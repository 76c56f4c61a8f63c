"""Results as runs on a cluster make them, for what shows them."""

import copy
import json
import pathlib

import jsonschema

from .test_drill_result import alternation, leader_loss

SCHEMA = json.loads((pathlib.Path(__file__).parents[2] / "kubekeel/result.schema.json").read_text())
VALIDATOR = jsonschema.Draft202012Validator(SCHEMA)

NODES = ("server1", "server2", "server3")
LABELS = {
    "new_leader": "new leader",
    "node_down": "node seen down",
    "endpoint_gone": "endpoint gone",
    "requests_end": "requests fail until",
    "pods_evicted": "pods replaced",
    "unacknowledged_dropped": "dead connection with unanswered data",
    "idle_dropped": "idle dead connection",
}
SHIPPED = ((62.3, 71.1), (102.9, 112.8), (103.0, 113.3), (103.5, 114.3), (408.6, 428.1), (971.2, 1041.0), (8280.4, 8884.0))
BALANCED = ((16.2, 20.6), (37.0, 43.1), (37.1, 43.6), (37.6, 44.6), (99.7, 115.2), (107.0, 116.3), (125.6, 135.8))
FAST = ((7.4, 9.4), (14.2, 16.9), (14.3, 17.4), (14.8, 18.4), (76.8, 88.9), (84.1, 90.0), (102.7, 109.5))

LEASE = {
    "why": "until the lease of a dead leader runs out nobody schedules, evicts or removes endpoints",
    "source": "canonical/microk8s#2203; kubernetes client-go leaderelection.go",
}
SETTINGS = (
    ("kube-controller-manager", "leader-elect-lease-duration", "60s", "15s", LEASE),
    ("kube-scheduler", "leader-elect-lease-duration", "60s", "15s", LEASE),
    (
        "kube-controller-manager",
        "node-monitor-grace-period",
        "",
        "20s",
        {
            "why": "for this long requests still go to the endpoints of a node that is dead",
            "source": "kubernetes.io, Nodes: heartbeats; kubernetes/kubernetes#121793",
        },
    ),
    (
        "snap.microk8s.daemon-kubelite",
        "HTTP2_READ_IDLE_TIMEOUT_SECONDS",
        "",
        "8",
        {
            "why": "client-go notices a dead connection to the API server only after idle + ping time-out; where that is longer than the "
            "grace period, one dropped connection marks healthy nodes NotReady",
            "source": "kubernetes/kubernetes#121793, #95981",
        },
    ),
    (
        "sysctl",
        "net.ipv4.tcp_retries2",
        "15",
        "8",
        {
            "why": "a connection with unanswered data hangs until the retries are used up: 15 min 24 s with the kernel's 15, 102 s with 8",
            "source": "kernel.org, ip-sysctl; RFC 1122 4.2.3.5",
        },
    ),
)
UNIT = "snap.microk8s.daemon-kubelite"
ARGUMENTS = "/var/snap/microk8s/current/args/kube-controller-manager"
DIFF = f"""--- {ARGUMENTS}
+++ {ARGUMENTS}
@@ -4,5 +4,6 @@
 --cluster-signing-key-file=${{SNAP_DATA}}/certs/ca.key
 --use-service-account-credentials
---leader-elect-lease-duration=60s
+--leader-elect-lease-duration=15s
 --profiling=false
 --node-ip=%s
+--node-monitor-grace-period=20s
"""


def checked(document):
    VALIDATOR.validate(document)
    return document


def finding(identifier, kind, severity, status, node="", waiver=None, **texts):
    made = {"id": identifier, "kind": kind, "severity": severity, "status": status, "node": node, "waiver": waiver}
    return {name: texts.get(name, "") for name in ("title", "evidence", "why", "remedy", "source")} | made


def budget(server, figures):
    steps = [
        {"name": name, "label": label, "typical": typical, "worst": worst}
        for (name, label), (typical, worst) in zip(LABELS.items(), figures, strict=True)
    ]
    owner = "kube-controller-manager"
    largest = [
        {"setting": "leader-elect-lease-duration", "owner": owner, "seconds": 60.0},
        {"setting": "node-monitor-grace-period", "owner": owner, "seconds": 40.0},
    ]
    return {"server": server, "case": "leader", "steps": steps, "largest": largest}


def change(node, number=1):
    settings = [
        {"owner": owner, "name": name, "before": before, "after": after, "note": ""} for owner, name, before, after, _why in SETTINGS
    ]
    files = [
        {"path": ARGUMENTS, "diff": DIFF % f"10.89.1.{10 + number}"},
        {"path": "/etc/sysctl.d/99-zz-kubekeel.conf", "diff": ""},
    ]
    return {"node": node, "settings": settings, "files": files, "restarts": [UNIT]}


def document(command, status="ok", exit_code=0, nodes=NODES, **parts):
    """Return a result of a command that found, changed and measured nothing but what is given."""
    made = {
        "schema": 1,
        "run": {
            "id": f"20261122T122916Z-{command}-c6f2",
            "command": command,
            "inventory": "inventories/lab",
            "check": command == "plan",
            "limit": "",
            "tags": [],
            "began": "2026-11-22T12:29:16Z",
            "ended": "2026-11-22T12:31:05Z",
            "seconds": 108.7,
            "status": status,
            "exit_code": exit_code,
            "fail_on": "critical",
            "taken_back_by": "",
        },
        "tool": {"kubekeel": "0.1.0", "ansible_core": "2.19.2", "python": "3.11.2"},
        "cluster": {
            "name": "lab",
            "distribution": "microk8s",
            "releases": ["v1.32.3"],
            "profile": "balanced",
            "summary": "all nodes Ready, 3 voters up, 1 server may be lost",
            "servers_to_spare": 1,
            "nodes": [
                {"name": node, "role": "agent" if "agent" in node else "server", "release": "v1.32.3", "read": True, "problem": ""}
                for node in nodes
            ],
        },
        "findings": [],
        "plan": [],
        "changes": [],
        "gates": [],
        "failures": [],
        "budget": None,
        "drill": None,
        "texts": [],
    }
    made["run"] |= parts.pop("run", {})
    made["cluster"] |= parts.pop("cluster", {})
    return checked(made | parts)


def settings_that_differ(nodes=NODES):
    return [
        finding(
            name,
            "setting",
            "warning",
            "fail",
            node,
            title=f"{name} of {owner}",
            evidence=f"is {before or 'not set'}, wanted is {after}",
            remedy="kubekeel remediate sets it",
            **why,
        )
        for node in nodes
        for owner, name, before, after, why in SETTINGS
    ]


def audit(nodes=NODES):
    """An audit that found something of every kind and status, with a node that could not be read."""
    first, second, last = nodes[0], nodes[1], nodes[-1]
    read = nodes[:-1]
    waiver = {"reason": "This disk is watched by the storage team, OPS-4711", "expires": "2027-01-31"}
    found = [
        finding(
            "cluster_health",
            "cluster",
            "critical",
            "fail",
            title="The cluster is well and can lose a server",
            evidence=f"{last} is NotReady; no server may be lost",
            why="where a server is away already, the next one costs the quorum",
            remedy="bring back what is away; kubekeel recover is for nodes of K3s that stay NotReady",
        ),
        finding(
            "node_unread",
            "node",
            "critical",
            "unknown",
            last,
            title="The node could not be read",
            evidence="Failed to connect to the host via ssh: connect to host 10.89.1.13 port 22: No route to host",
            why="nobody knows what is set there, nor whether it is well",
            remedy=f"kubekeel doctor --limit {last} tells what keeps it from being read",
        ),
        finding(
            "damaged_line",
            "file",
            "critical",
            "fail",
            second,
            title="A line with which a component will not start again",
            evidence=f"{ARGUMENTS}:17: --pod-eviction-timeout=30s",
            why="the flag is gone since Kubernetes 1.27: the component does not start with it",
            remedy="mend that line",
        ),
        *settings_that_differ(read),
        finding(
            "canonical/microk8s#3227",
            "node",
            "warning",
            "fail",
            first,
            title="A bug that the release has",
            evidence="v1.32.3 leaves Dqlite without a leader for 10 s (canonical/microk8s#3227)",
            source="canonical/microk8s#3227",
        ),
        *(
            finding(
                "snap_hold",
                "guard",
                "info",
                "warn",
                node,
                title="snap hold",
                evidence="nothing keeps snapd from refreshing MicroK8s during the run",
                why="it looks for updates four times a day, and may take a second server down while kubekeel restarts one",
                remedy="'snap refresh --hold=2h microk8s' on each node beforehand keeps it away for two hours",
                source="snapcraft.io, Managing updates",
            )
            for node in read
        ),
        finding(
            "disk_full",
            "guard",
            "critical",
            "fail",
            first,
            waiver,
            title="disk full",
            evidence=f"the file system of /var on {first} has 120 MB left, less than 500 MB",
            why="a file could not be written or taken back",
            remedy="make room there ('df -h', 'df -i')",
        ),
        *(finding("kube_proxy", "remedy", "info", "pass", node, title="kube proxy", evidence="is as wanted") for node in read),
        finding("k3s_registration", "remedy", "info", "skip", title="k3s registration", evidence="this is MicroK8s"),
    ]
    made = document(
        "audit",
        "incomplete",
        3,
        nodes,
        findings=found,
        cluster={"summary": f"{last} is NotReady; no server may be lost", "servers_to_spare": 0},
        budget={"before": budget(first, SHIPPED), "after": budget(first, BALANCED)},
        failures=[
            {
                "nodes": [last],
                "task": "Gather facts",
                "message": "Failed to connect to the host via ssh: No route to host",
                "unreachable": True,
            }
        ],
        texts=["AUDIT of 3 nodes: 2 differ from the wanted state, 1 could not be read\n"],
    )
    made["cluster"]["nodes"][-1] |= {"read": False, "release": "", "problem": "Failed to connect to the host via ssh: No route to host"}
    return checked(made)


def simple_audit():
    """An audit that found settings and nothing else."""
    return document(
        "audit", findings=settings_that_differ(), budget={"before": budget("server1", SHIPPED), "after": budget("server1", BALANCED)}
    )


def plan(nodes=NODES):
    return document(
        "plan",
        nodes=nodes,
        findings=settings_that_differ(nodes),
        plan=[change(node, number) for number, node in enumerate(nodes)],
        budget={"before": budget(nodes[0], SHIPPED), "after": budget(nodes[0], BALANCED)},
    )


def gates(nodes=NODES, passed=True):
    tasks: tuple[tuple[str, float, list[str]], ...] = (
        ("Make sure that the cluster may lose a server now", 1.5, []),
        ("Restart and see whether it stays up", 19.7, [f"{UNIT} stays up for 15 s"]),
        ("Wait until the cluster may lose a server again", 15.2, ["server1 is Ready", "3 voters are up"]),
    )
    made, at = [], 16.0
    for node in nodes:
        for task, seconds, waited in tasks:
            minute, second = divmod(at % 3600, 60)
            began = f"2026-11-22T{12 + int(at // 3600):02}:{int(minute):02}:{second:06.3f}Z"
            made.append({"node": node, "gate": task, "began": began, "seconds": seconds, "passed": True, "waited_for": waited})
            at += seconds + 0.8
    made[-1]["passed"] = passed
    return made


def remediate(nodes=NODES):
    made = document(
        "remediate",
        nodes=nodes,
        changes=[change(node, number) for number, node in enumerate(nodes)],
        gates=gates(nodes),
        budget={"before": budget(nodes[0], SHIPPED), "after": budget(nodes[0], BALANCED)},
        run={"taken_back_by": "20261122T122916Z"},
    )
    return checked(made)


def broken_remediate():
    """A remediation whose second node did not come back."""
    return document(
        "remediate",
        "failed",
        4,
        plan=[change(node, number) for number, node in enumerate(NODES)],
        changes=[change("server1")],
        gates=gates(NODES[:2], passed=False),
        failures=[
            {
                "nodes": ["server2"],
                "task": "Restart and see whether it stays up",
                "message": f"{UNIT} did not stay up:\n  F1122 12:30:53 unknown flag: --leader-elect-lease\nIts previous files are back.",
                "unreachable": False,
            }
        ],
        run={"taken_back_by": "20261122T122916Z"},
    )


def refused():
    return document(
        "remediate",
        "refused",
        5,
        findings=[
            finding(
                "node_cordoned",
                "guard",
                "critical",
                "fail",
                "server2",
                title="node cordoned",
                evidence="node server2 is cordoned",
                why="somebody is at work on it and may take it down at any moment",
                remedy="ask who it is; 'kubectl uncordon server2' ends it",
            )
        ],
        failures=[
            {"nodes": ["server2"], "task": "Refuse", "message": "Nothing was changed: node server2 is cordoned", "unreachable": False}
        ],
    )


def verify():
    return document(
        "verify",
        findings=[
            finding(f"lease_{number}", "verification", "critical", "pass", node, title="The Lease is as wanted", evidence="15s")
            for number, node in enumerate(NODES)
        ],
    )


def drill(passed=True):
    measured = leader_loss() if passed else leader_loss(down=44.0, gone=None, failing=None, back=None, up=None)
    return document("drill", *(("ok", 0) if passed else ("failed", 4)), nodes=(*NODES, "agent1"), drill=measured)


def long_drill():
    return document("drill", nodes=(*NODES, "agent1"), drill=alternation())


def large(count=30):
    """A cluster whose nodes all differ in what was seen, with gates and a drill."""
    nodes = [f"server{number}" if number < 5 else f"agent{number}" for number in range(count)]
    made = audit(nodes)
    for number, one in enumerate(made["findings"]):
        one["evidence"] += f" (seen {number} times)"
    changes = [copy.deepcopy(change(node, number)) for number, node in enumerate(nodes)]
    for number, one in enumerate(changes):
        one["settings"][0]["after"] = f"{number}s"
        one["files"][0]["diff"] += "".join(f"+--another-flag-{line}={number}\n" for line in range(20))
    made["changes"], made["gates"], made["drill"] = changes, gates(nodes), alternation()
    made["run"]["command"] = "remediate"
    return checked(made)


SAMPLES = {
    "audit": audit,
    "simple audit": simple_audit,
    "plan": plan,
    "remediate": remediate,
    "broken remediate": broken_remediate,
    "refused": refused,
    "verify": verify,
    "drill": drill,
    "failed drill": lambda: drill(passed=False),
    "long drill": long_drill,
    "nothing": lambda: document("rollback", "incomplete", 3),
    "large": large,
}
