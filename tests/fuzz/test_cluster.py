"""What a cluster says of itself, what snapd and the records of runs say of a node, and who holds the cluster."""

import contextlib
import copy
import email.utils
import json
import time
from datetime import datetime
from typing import Any

import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import cluster_guards, cluster_lock, etcd_messages, health, lock_client
from ansible_collections.kubekeel.ha.plugins.modules import cluster_health, node_info
from ansible_collections.kubekeel.ha.plugins.modules import cluster_lock as cluster_lock_module
from ansible_collections.kubekeel.ha.plugins.plugin_utils import rollback_plan
from hypothesis import strategies as st

from . import seeds
from .inputs import LEAVES, broken, fuzz, is_countable, wrecked
from .node import HOSTS, Node

# -- Health and guards -------------------------------------------------------------------------------------------------

SERVERS = [(f"node-{letter}", host) for letter, host in zip("abc", HOSTS, strict=True)]


def listed(*items: Any) -> dict[str, Any]:
    return {"kind": "List", "items": list(items)}


def a_node(name: str, host: str) -> dict[str, Any]:
    labels = {health.HOST_LABEL: name, health.ETCD_LABEL: "true", health.API_LABELS[0]: "true"}
    conditions = [{"type": "EtcdIsVoter", "status": "True"}, {"type": "Ready", "status": "True"}]
    addresses = [{"type": "InternalIP", "address": host}, {"type": "Hostname", "address": name}]
    return {
        "metadata": {"name": name, "labels": labels, "annotations": {"k3s.io/internal-ip": host}},
        "spec": {"unschedulable": False},
        "status": {"addresses": addresses, "conditions": conditions, "nodeInfo": {"kubeletVersion": "v1.32.3+k3s1"}},
    }


def a_lease(name: str, **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"renewTime": "NOW", "leaseDurationSeconds": 40, **spec}}


KURED = json.dumps({"nodeID": "node-b", "created": "2026-11-21T02:58:11.4Z", "TTL": 0})
ANSWERS: dict[str, Any] = {
    "/readyz": "ok",
    cluster_health.NODES: listed(*(a_node(*server) for server in SERVERS)),
    cluster_health.LEASES: listed(*(a_lease(name) for name, _host in SERVERS)),
    cluster_health.LEADERS: listed(*(a_lease(name, holderIdentity="node-a_1") for name in health.LEADERS)),
    cluster_health.IDENTITY: {"metadata": {"uid": "c"}},
    cluster_health.ENDPOINTS: {"subsets": [{"addresses": [{"ip": host} for host in HOSTS], "ports": [{"port": 6443}]}]},
    cluster_health.DAEMON_SETS: listed(
        {"metadata": {"name": "kured", "namespace": "kube-system", "annotations": {cluster_guards.KURED_LOCK: KURED}}}
    ),
    cluster_health.PLANS: listed({"metadata": {"name": "p", "namespace": "s"}, "status": {"applying": ["node-c"]}}),
}
STATUS = "microk8s:\n  running: True\nhigh-availability:\n  enabled: True\n  nodes:\n"
STATUS += "".join(f"    - address: {host}:19001\n      role: voter\n" for host in HOSTS) + "addons:\n"
ETCD = {etcd_messages.MEMBER_LIST: seeds.MEMBERS, etcd_messages.STATUS: seeds.ETCD_STATUS}
DATE = email.utils.formatdate(usegmt=True)


@st.composite
def answers(draw: st.DrawFn) -> dict[str, str]:
    """What the API says, mostly with one page that is broken."""
    pages = {path: json.dumps(page) for path, page in ANSWERS.items()}
    for path in draw(st.lists(st.sampled_from(list(pages)[1:]), max_size=2)):
        pages[path] = draw(wrecked(ANSWERS[path]).map(json.dumps) | broken(pages[path]))
    return pages


def is_well(pages: dict[str, str], now: float) -> bool:
    """Whether the API lists nodes, each of them Ready with a Lease that is young."""
    with contextlib.suppress(KeyError, TypeError, ValueError, RecursionError):
        nodes, leases = (json.loads(pages[path])["items"] for path in (cluster_health.NODES, cluster_health.LEASES))
        specs = {lease["metadata"]["name"]: lease["spec"] for lease in leases}
        for node in nodes:
            ready = [one["status"] for one in node["status"]["conditions"] if one["type"] == "Ready"]
            spec = specs[node["metadata"]["name"]]
            age = now - datetime.fromisoformat(spec["renewTime"]).timestamp()
            if ready[0] != "True" or not -10 < age < (spec.get("leaseDurationSeconds") or health.LEASE_DURATION) + 10:
                return False
        return bool(nodes)
    return False


def voters(status: str) -> set[str]:
    """The hosts that have a vote, as far as it is YAML of this form."""
    with contextlib.suppress(AttributeError, KeyError, TypeError, RecursionError, ValueError, yaml.YAMLError):
        members = yaml.safe_load(status)["high-availability"]["nodes"]
        if all(set(member) == {"address", "role"} for member in members):
            return {str(member["address"]) for member in members if member["role"] == "voter"}
    return set(HOSTS)


@fuzz(
    1000,
    is_k3s=st.booleans(),
    pages=answers(),
    status=st.just(STATUS) | broken(STATUS),
    members=st.just(seeds.MEMBERS) | broken(seeds.MEMBERS.decode("latin-1")).map(lambda text: text.encode("latin-1", "ignore")),
    date=st.just(DATE) | broken(DATE),
)
def test_health_of_a_cluster(node: Node, is_k3s: bool, pages: dict[str, str], status: str, members: bytes, date: str) -> None:
    """A server may go only where all is well, and what speaks against it has a sentence."""
    node.fill({"k3s.service": seeds.UNITS["server"], "config.yaml": seeds.MINE} if is_k3s else {"args/kubelet": seeds.ARGS["kubelet"]})
    now = time.time()
    node.cluster.pages = {path: text.replace("NOW", health.micro_time(now - 3)) for path, text in pages.items()}
    node.cluster.date = "".join(character for character in date if character.isprintable())
    node.cluster.etcd = {**ETCD, etcd_messages.MEMBER_LIST: members}
    node.programs = {"yaml": status}
    found = node.run(cluster_health, survey=True)
    if found.get("failed"):
        return
    assert bool(found["reasons"]) is not found["safe_to_disrupt"]
    assert all(reason.strip() for reason in found["reasons"])
    assert not found["safe_to_disrupt"] or is_well(node.cluster.pages, now)
    assert not found["safe_to_disrupt"] or is_k3s or len(voters(status)) > 2
    assert all({one["name"], one["text"], one["accept"]} and one["refuses"] in (True, False) for one in found["guards"])
    if pages == {path: json.dumps(page) for path, page in ANSWERS.items()} and (status, members) == (STATUS, seeds.MEMBERS):
        assert found["safe_to_disrupt"]
        assert {"reboots_by_kured", "upgrade_in_progress"} <= {one["name"] for one in found["guards"]}


LOCKS = (KURED, json.dumps({"maxOwners": 2, "locks": [json.loads(KURED)]}), json.dumps({"maxOwners": 2, "locks": []}))


@fuzz(500, text=broken(*LOCKS))
def test_locks_of_kured(text: str) -> None:
    """Nobody works on a node only where an empty list says so."""
    held = cluster_guards.lock_holders(text)
    assert all(name and isinstance(since, str) for name, since in held)
    assert held or '"locks"' in text


@fuzz(
    600,
    changes=broken(seeds.SNAP_CHANGES, seeds.SNAP_CHANGES + seeds.DOING + "\n"),
    snaps=broken(seeds.SNAPS),
    hold=broken(*seeds.HOLDS),
    release=broken("name: microk8s\nversion: v1.32.3\n"),
)
def test_guards_of_a_node(node: Node, changes: str, snaps: str, hold: str, release: str) -> None:
    """A refresh that is under way is seen, and whatever else is printed has an answer."""
    node.fill({"args/kubelet": seeds.ARGS["kubelet"], "snap.yaml": release})
    node.programs = {"changes": changes, "microk8s": snaps, "refresh.hold": hold}
    found = node.run(node_info, distribution="microk8s")
    assert not found.get("failed")
    names = [guard["name"] for guard in found["guards"]]
    assert seeds.DOING not in changes.splitlines() or "snap_refresh" in names
    assert changes != seeds.SNAP_CHANGES or "snap_refresh" not in names
    assert (snaps, changes) != (seeds.SNAPS, seeds.SNAP_CHANGES) or "snap_held" in names


# -- Who holds the cluster ---------------------------------------------------------------------------------------------

HELD: dict[str, Any] = {
    "metadata": {
        "name": "kubekeel",
        "uid": "u",
        "resourceVersion": "7",
        "annotations": {cluster_lock.PURPOSE: "drill", cluster_lock.OPERATOR: "bob@desk"},
    },
    "spec": {"holderIdentity": "r2", "leaseDurationSeconds": 600, "acquireTime": "NOW", "renewTime": "NOW"},
}


def another_lease(**spec: Any) -> dict[str, Any]:
    return {**HELD, "spec": {**HELD["spec"], **spec}}


LEASES_OF_RUNS = (
    HELD,
    another_lease(holderIdentity="r1"),
    another_lease(holderIdentity=""),
    another_lease(renewTime="2026-11-21T03:00:00Z"),
)


def keeps_away(lease: Any, now: float) -> str:
    """The run that holds a Lease for certain."""
    with contextlib.suppress(KeyError, TypeError, ValueError, OverflowError):
        spec = lease["spec"]
        left = datetime.fromisoformat(spec["renewTime"]).timestamp() + spec["leaseDurationSeconds"] - now
        return str(spec["holderIdentity"] or "") if left > 1 else ""
    return ""


def holder(lease: Any) -> Any:
    return lease["spec"]["holderIdentity"]


@fuzz(
    1000,
    lease=st.none() | wrecked(*LEASES_OF_RUNS),
    text=st.none() | st.none() | broken(json.dumps(HELD)),
    state=st.sampled_from(["taken", "taken", "released", "broken", "seen"]),
    more=st.fixed_dictionaries(
        {},
        optional={
            "duration": LEAVES.filter(is_countable),
            "purpose": broken("restart"),
            "holder": st.sampled_from(["r2", "r3"]),
            "check": st.booleans(),
        },
    ),
)
def test_the_lease_that_keeps_runs_apart(node: Node, lease: Any, text: str | None, state: str, more: dict[str, Any]) -> None:
    """What another run holds is never taken, and nobody else's Lease is written to."""
    node.fill({"args/kubelet": seeds.ARGS["kubelet"]})
    now = time.time()
    before = json.loads(json.dumps(lease).replace("NOW", health.micro_time(now - 3)))
    node.cluster.lease = copy.deepcopy(before)
    if text is not None:
        node.cluster.pages = {lock_client.LEASE: text.replace("NOW", health.micro_time(now - 3))}
    purpose = more.get("purpose", "restart").encode("utf-8", "replace").decode()
    result = node.run(cluster_lock_module, state=state, run_id="r1", **{"holder": "r2", **more, "purpose": purpose})
    after = node.cluster.lease
    if result.get("failed") or state == "seen" or more.get("check"):
        assert same(after, before)
    if text is None and state in ("taken", "released") and keeps_away(before, now) not in ("", "r1"):
        assert same(after, before)
        assert state == "released" or result["failed"]
    if same(after, before):
        return
    assert holder(after) == ("r1" if state == "taken" else "")
    if state != "taken" and text is None:
        assert str(holder(before)) == ("r1" if state == "released" else more.get("holder", "r2"))
    if state == "taken" and text is None:
        again = node.run(cluster_lock_module, run_id="r9")
        assert again["failed"]
        assert "r1" in again["msg"]


def same(one: Any, other: Any) -> bool:
    """Whether two values are the same; NaN is no equal of itself."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@fuzz(300, lease=wrecked(*LEASES_OF_RUNS))
def test_a_run_that_goes_on(node: Node, lease: Any) -> None:
    """A run goes on with the Lease in its name alone."""
    node.fill({"args/kubelet": seeds.ARGS["kubelet"]})
    text = health.micro_time(time.time() - 30)
    node.cluster.pages = {path: json.dumps(page).replace("NOW", text) for path, page in ANSWERS.items()}
    node.cluster.lease = json.loads(json.dumps(lease).replace("NOW", text))
    node.programs = {"yaml": STATUS}
    found = node.run(cluster_health, holding="r1")
    assert found["healthy"]
    assert found["as_asked"] is found["held"]
    is_mine = False
    with contextlib.suppress(KeyError, TypeError):
        is_mine = str(holder(lease)) == "r1"
    assert not found["held"] or is_mine


# -- Taking runs back --------------------------------------------------------------------------------------------------


@st.composite
def runs_of_a_node(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Runs as run_info tells them, newest first."""
    found: list[dict[str, Any]] = []
    for run_id in ("r2-2", "r2", "r1-2", "r1"):
        if draw(st.booleans()):
            files, sysctls = (draw(st.lists(st.sampled_from(names), unique=True)) for names in (["/a", "/b"], ["x.y"]))
            entries = [[{"name": name, "before": "1", "after": "2"} for name in names] for names in (files, sysctls)]
            found.append(
                {
                    "run_id": run_id,
                    "began": f"2026-11-21T0{4 - len(found)}:00:00Z",
                    "state": draw(st.sampled_from(["begun", "done", "restored"])),
                    "about": {},
                    "files": entries[0],
                    "sysctls": entries[1],
                    "edited": [name for name in (*files, *sysctls) if draw(st.integers(0, 3)) == 0],
                }
            )
    return found


@fuzz(
    700,
    known=st.dictionaries(st.sampled_from(["a", "b"]), runs_of_a_node()),
    run_id=st.sampled_from(["", "r1", "r2", "r3"]),
    others=st.sampled_from([[], ["c"]]),
    force=st.booleans(),
)
def test_plans_of_rollbacks(known: dict[str, Any], run_id: str, others: list[str], force: bool) -> None:
    """The passes of one run, the second one first, on the nodes that it changed; edits of others are in the way."""
    plan = rollback_plan.plan(known, run_id, others, force)
    passes = [each["run_id"] for each in plan["passes"]]
    assert passes in ([], *([name] for name in (plan["run_id"] + "-2", plan["run_id"])), [plan["run_id"] + "-2", plan["run_id"]])
    assert not run_id or plan["run_id"] == run_id
    assert bool(plan["nothing"]) is not bool(passes)
    wanted = (plan["run_id"], plan["run_id"] + "-2")
    open_runs = [(node, run) for node, runs in known.items() for run in runs if run["run_id"] in wanted and run["state"] != "restored"]
    assert sorted((each["run_id"], node) for each in plan["passes"] for node in each["nodes"]) == sorted(
        (run["run_id"], node) for node, run in open_runs
    )
    newest = {(node, entry["name"]): run for node, run in reversed(open_runs) for entry in [*run["files"], *run["sysctls"]]}
    edited = [where for where, run in newest.items() if where[1] in run["edited"]]
    assert bool(edited) is any("was changed by" in reason for reason in plan["reasons"]) or force
    assert not force or not any("was changed by" in reason for reason in plan["reasons"])
