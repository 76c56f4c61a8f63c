"""From the events of a run to what an operator sees of it, and to what its result needs of them. Pure."""

import difflib
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

STEPS = (
    "reading",
    "comparing",
    "staging",
    "waiting",
    "restarting",
    "settling",
    "taking back",
    "losing",
    "safe",
    "failed",
    "done",
)
"""What a node is at."""

OURS = "kubekeel.ha."
STAGES = frozenset(
    OURS + name
    for name in (
        *("cni_tuning", "component_args", "k3s_registration", "kernel_modules", "kube_proxy_rules", "kubelet_configuration"),
        *("service_environment", "sysctl_profile"),
    )
)
"""Modules that set something; in a survey they only compare."""
HEALTH, INFO, LOCK, REPORT = OURS + "cluster_health", OURS + "node_info", OURS + "cluster_lock", OURS + "report"
RESTART, RESTORE, CLEARED, LOSS = OURS + "unit_restart", OURS + "restore", OURS + "k3s_lb_state", OURS + "drill_loss"
STEP_OF = {
    INFO: "reading",
    OURS + "datastore_latency": "reading",
    OURS + "run_info": "reading",
    RESTART: "restarting",
    RESTORE: "taking back",
    LOSS: "losing",
}
CHANGING = ("Remediate", "Restart", "Take it back", "Recover", "Drill,")
"""How the plays begin in which nodes are changed."""


@dataclass(frozen=True)
class Event:
    """Something that happened in a run."""

    kind: str
    """play (text: its name), step (node, step), waits (node, text: what for), text (a report), failed or unreachable (node, task, text),
    or end (text: the status of the result)."""
    cluster: str
    """Which inventory or cluster of a fleet the run is about."""
    run: str
    at: float
    """Seconds of the Unix epoch."""
    node: str = ""
    task: str = ""
    step: str = ""
    """One of STEPS."""
    text: str = ""


@dataclass
class Seen:
    """What the events of a run tell for its result."""

    texts: list[str] = field(default_factory=list)
    gates: list[dict[str, Any]] = field(default_factory=list)
    changes: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By node, as the result has them."""
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The last failure of each node."""
    failing: set[str] = field(default_factory=set)
    """Nodes that counted as failed or unreachable in the end."""
    infos: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What node_info said, by node."""
    lock: str = ""
    """The name under which the run held the cluster."""
    touched: bool = False
    """Whether it came to a play in which nodes are changed."""
    told: bool = False
    """Whether ansible-playbook came to its end."""


class Watcher:
    """Takes the events of ansible-runner, one after the other."""

    def __init__(self, cluster: str, run: str, tell: Callable[[Event], None] | None = None) -> None:
        self.seen = Seen()
        self.at_work = threading.Event()
        """Whether the run holds the cluster, so that it had better end by itself."""
        self.error: Exception | None = None
        """What whoever listens raised, or what is wrong here. A run must not break off for that, so nothing more is told."""
        self._cluster, self._run, self._tell = cluster, run, tell
        self._play = ""
        self._steps: dict[str, str] = {}
        self._waited: dict[str, list[str]] = {}

    def tell(self, kind: str, at: float, **facts: str) -> None:
        """Tell whoever listens."""
        if self._tell and not self.error:
            try:
                self._tell(Event(kind, self._cluster, self._run, at, **facts))
            except Exception as error:
                self.error = error

    def __call__(self, raw: Mapping[str, Any], at: float) -> None:
        """Take an event that came at a time, in seconds of the Unix epoch."""
        data = raw.get("event_data") or {}
        handler = _HANDLERS.get(str(raw.get("event")))
        try:
            if handler:
                handler(self, data, at)
        except Exception as error:
            self.error = self.error or error

    def _begins_play(self, data: Mapping[str, Any], at: float) -> None:
        self._play = data.get("play") or ""
        self.tell("play", at, text=self._play)

    @property
    def _changing(self) -> bool:
        return self._play.startswith(CHANGING)

    def _begins(self, data: Mapping[str, Any], at: float) -> None:
        action, node = _action(data), data.get("host") or ""
        # ansible-core comes to a play of which no node is left, too.
        self.seen.touched |= self._changing
        step = STEP_OF.get(action, "")
        if action in STAGES:
            step = "staging" if self._changing else "comparing"
        elif action == HEALTH:
            step = "reading" if not self._changing else "settling" if self._steps.get(node) == "restarting" else "waiting"
        if step and node:
            self._waited.pop(node, None)
            self._to(node, step, at, data.get("task") or "")

    def _to(self, node: str, step: str, at: float, task: str = "", text: str = "") -> None:
        if self._steps.get(node) != step:
            self._steps[node] = step
            self.tell("step", at, node=node, step=step, task=task, text=text)

    def _waits(self, data: Mapping[str, Any], at: float) -> None:
        node, result = data.get("host") or "", data.get("res") or {}
        texts = _texts(result.get("reasons") or result.get("missing") or result.get("msg"))
        known = self._waited.setdefault(node, [])
        known += [text for text in texts if text not in known]
        self.tell("waits", at, node=node, task=data.get("task") or "", text="; ".join(texts))

    def _is_ok(self, data: Mapping[str, Any], at: float) -> None:
        action, node, result = _action(data), data.get("host") or "", data.get("res") or {}
        if action == REPORT and result.get("msg"):
            self.seen.texts.append(result["msg"])
            self.tell("text", at, text=result["msg"])
        elif action == INFO:
            self.seen.infos[node] = result
        elif action == LOCK:
            mine = result.get("holder") if result.get("mine") else ""
            self.seen.lock = mine or self.seen.lock
            self.at_work.set() if mine else self.at_work.clear()
        if self._changing:
            self._note_change(action, node, result)
            self._note_gate(data, passed=True)
            if action == HEALTH and self._steps.get(node) == "settling":
                self._to(node, "safe", at)

    def _note_change(self, action: str, node: str, result: Mapping[str, Any]) -> None:
        """Keep what a module did to a node, or in check mode would do."""
        restarts = [unit["name"] for unit in result.get("units") or ()] if action == RESTART else []
        settings = [setting(change) for change in result.get("changes") or ()] if action in STAGES else []
        files = list(_files(action, result))
        if restarts or settings or files:
            mine = self.seen.changes.setdefault(node, {"node": node, "settings": [], "files": [], "restarts": []})
            mine["settings"] += settings
            mine["files"] += files
            mine["restarts"] += [unit for unit in restarts if unit not in mine["restarts"]]

    def _note_gate(self, data: Mapping[str, Any], *, passed: bool) -> None:
        if _action(data) in (HEALTH, RESTART):
            node = data.get("host") or ""
            self.seen.gates.append(
                {
                    "node": node,
                    "gate": data.get("task") or "",
                    "began": data.get("start") or "",
                    "seconds": round(float(data.get("duration") or 0), 3),
                    "passed": passed,
                    "waited_for": self._waited.pop(node, []),
                }
            )

    def _fails(self, data: Mapping[str, Any], at: float, *, unreachable: bool = False) -> None:
        if data.get("ignore_errors"):
            return
        node, result = data.get("host") or "", data.get("res") or {}
        text = "; ".join(_texts(result.get("msg"))) or "; ".join(_texts(result.get("missing"))) or "failed without a word"
        self.seen.failed[node] = {
            "task": data.get("task") or "",
            "message": text,
            "unreachable": unreachable,
            "action": _action(data),
            "play": self._play,
        }
        if self._changing:
            self._note_gate(data, passed=False)
        self._to(node, "failed", at)
        self.tell("unreachable" if unreachable else "failed", at, node=node, task=data.get("task") or "", text=text)

    def _is_unreachable(self, data: Mapping[str, Any], at: float) -> None:
        self._fails(data, at, unreachable=True)

    def _ends(self, data: Mapping[str, Any], at: float) -> None:
        self.seen.told = True
        self.seen.failing = {node for kind in ("failures", "dark") for node, count in (data.get(kind) or {}).items() if count}
        for node in self._steps:
            if node not in self.seen.failing and self._steps[node] != "safe":
                self._to(node, "done", at)


_HANDLERS: Mapping[str, Callable[[Watcher, Mapping[str, Any], float], None]] = {
    "playbook_on_play_start": Watcher._begins_play,
    "runner_on_start": Watcher._begins,
    "runner_retry": Watcher._waits,
    "runner_on_ok": Watcher._is_ok,
    "runner_on_failed": Watcher._fails,
    "runner_on_unreachable": Watcher._is_unreachable,
    "playbook_on_stats": Watcher._ends,
}


def _action(data: Mapping[str, Any]) -> str:
    return str(data.get("resolved_action") or data.get("task_action") or "")


def _texts(value: Any) -> list[str]:
    """Return what a module says as sentences."""
    if value is None or value == "":
        return []
    return [str(one).strip() for one in value] if isinstance(value, list) else [str(value).strip()]


def setting(change: Mapping[str, Any]) -> dict[str, str]:
    """Return a change of a module as the result has it."""
    return {name: "" if change.get(name) is None else str(change[name]) for name in ("owner", "name", "before", "after", "note")}


def _files(action: str, result: Mapping[str, Any]) -> Iterable[dict[str, str]]:
    """Return the files that a module changed, or would change."""
    if action in STAGES or action == RESTORE:
        diffs = result.get("diff") or []
        named = [_diffed(one) for one in (diffs if isinstance(diffs, list) else [diffs])]
        known = [one for one in named if one["diff"]]
        yield from known
        paths = {one["path"] for one in known}
        yield from ({"path": path, "diff": ""} for path in result.get("paths") or () if path not in paths)
    elif action == CLEARED:
        yield from ({"path": one["path"], "diff": ""} for one in result.get("files") or () if one.get("moved_to"))


def _diffed(diff: Mapping[str, Any]) -> dict[str, str]:
    """Return what a module shows under --diff as a unified diff."""
    path = str(diff.get("after_header") or diff.get("before_header") or "")
    before, after = (str(diff.get(name) or "").splitlines() for name in ("before", "after"))
    return {"path": path, "diff": "\n".join(difflib.unified_diff(before, after, path, path, lineterm=""))}
