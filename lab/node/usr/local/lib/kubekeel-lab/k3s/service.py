"""``k3s server`` and ``k3s agent``: what starts after what, and what ends before what."""

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from typing import NoReturn

from . import balancer_state, components, front, kubeconfigs, log, supervisor
from .balancer import Balancer
from .children import Children
from .client import Client, RequestError
from .etcd import Etcd
from .node import CONTAINERD_SOCKET, ETCD_PORT, PORT, Node, host_and_port
from .node_status import NodeStatus
from .watch import ApiServers, EtcdMembers, in_background

POLL_SECONDS = 0.1
JOIN_SECONDS = 10.0
STOP_SECONDS = 5.0
LEAVE_SECONDS = 2.0
API_SERVER = "kube-apiserver"
API_CLIENTS = ("kubelet", "kube-proxy", "kube-controller-manager", "kube-scheduler")


class Service:
    """One node's K3s."""

    def __init__(self, node: Node) -> None:
        """Prepare; nothing runs yet."""
        self._node = node
        self._children = Children()

    def run(self) -> NoReturn:
        """Run until systemd ends it, or a component's end does."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, stop)
        try:
            self._start()
            while True:
                self._check()
                time.sleep(POLL_SECONDS)
        finally:
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_IGN)
            self._stop()

    def _start(self) -> None:
        node = self._node
        log.info(f"Starting k3s {'agent' if not node.is_server else ''} {node.facts.release.text}".replace("  ", " "))
        kubeconfigs.write(node)
        self._start_containerd()
        if node.is_server:
            supervisor.serve(node)
            self._component("haproxy", front.command(node))
            self._start_datastore()
        if node.runs("apiserver"):
            self._start_control_plane()
        else:
            if node.is_server:
                # An etcd-only server is up when etcd is: the API server may be waiting for just that.
                notify("READY=1")
            self._start_balancer()
        self._await("the images", lambda: not self._import.is_alive())
        self._component("kubelet", components.kubelet(node))
        if not node.options.switch("disable-kube-proxy"):
            self._component("kube-proxy", components.kube_proxy(node))
        if node.is_server:
            in_background("node-status", NodeStatus(node).follow)
        log.info("k3s is up and running" if node.is_server else "k3s agent is up and running")
        notify("READY=1")

    def _stop(self) -> None:
        """End everything but the pods: clients first, then what they need."""
        self._children.stop(API_CLIENTS, STOP_SECONDS)
        # It takes itself off the endpoints of the Service at once, then waits for clients that hold on.
        self._children.ask([API_SERVER], LEAVE_SECONDS)
        self._children.stop(["haproxy", API_SERVER], STOP_SECONDS)
        self._children.stop(["etcd", "containerd"], STOP_SECONDS)

    def _start_containerd(self) -> None:
        """Start containerd; it takes the images that lie ready while others start."""
        kubeconfigs.put(self._node.agent / "etc/containerd/config.toml", components.containerd_config(self._node))
        self._component("containerd", components.containerd(self._node))
        self._import = threading.Thread(target=import_images, args=[self._node], daemon=True)
        self._import.start()

    def _start_datastore(self) -> None:
        """Start etcd, or what leads to it."""
        node = self._node
        if node.runs("etcd"):
            self._component("etcd", components.etcd(node))
        else:
            place = node.server / "etc/k3s-etcd-server-load-balancer.json"
            etcd = Etcd(node)
            host = host_and_port(node.server_url).rpartition(":")[0]
            balancer = Balancer(
                "k3s-etcd-server-load-balancer",
                ETCD_PORT,
                f"https://{host}:{ETCD_PORT}",
                place,
                alive=etcd.alive,
                listener=node.facts.release.writes_listener,
            )
            self._join(balancer)
            balancer.start()
            in_background("etcd-members", EtcdMembers(node, balancer).follow)
        self._await("etcd server", lambda: reachable(Etcd(node).healthy))

    def _join(self, balancer: Balancer) -> None:
        """Get the authority's certificate from the join server; this is where k3s#11333 strikes."""
        node = self._node
        servers = [host_and_port(node.server_url)]
        if node.facts.release.joins_once:
            remembered = [f"{address.rpartition(':')[0]}:{PORT}" for address in balancer.addresses]
            servers = balancer_state.to_ask(servers[0], remembered, ())
        client = Client(node.tls / "server-ca.crt", timeout=2)
        deadline = time.monotonic() + JOIN_SECONDS
        while True:
            for server in servers:
                try:
                    client.request(server, "/cacerts")
                except RequestError as error:
                    problem = error
                else:
                    return
            if time.monotonic() > deadline:
                log.fatal(f"starting kubernetes: preparing server: failed to get CA certs: {problem}")
            time.sleep(1)

    def _start_control_plane(self) -> None:
        """Start the API server, and what needs it when it answers."""
        node = self._node
        self._component(API_SERVER, components.kube_apiserver(node))
        client = Client(node.tls / "server-ca.crt", node.tls / "client-admin")
        self._await("API server", lambda: reachable(lambda: client.request(f"127.0.0.1:{PORT}", "/readyz") == b"ok"))
        if node.runs("controller-manager"):
            self._component("kube-controller-manager", components.kube_controller_manager(node))
        if node.runs("scheduler"):
            self._component("kube-scheduler", components.kube_scheduler(node))

    def _start_balancer(self) -> None:
        """Start the way to the other nodes' API servers; go on when a server answers."""
        node = self._node
        place = node.agent / "etc/k3s-agent-load-balancer.json"
        if node.is_server and not node.options.text("server"):
            # The first server does not trust its memory: API servers that it knows may be waiting for its etcd.
            place.unlink(missing_ok=True)
        client = Client(node.agent / "server-ca.crt")
        balancer = Balancer(
            "k3s-agent-load-balancer",
            node.balancer_port,
            node.server_url,
            place,
            alive=lambda address: reachable(lambda: client.request(address, "/ping") == b"pong"),
            listener=node.facts.release.writes_listener,
        )
        balancer.start()
        servers = ApiServers(node, balancer)

        def lead() -> None:
            servers.begin()
            servers.wait_for_server()

        # Beside us: should a component end meanwhile, we have to notice.
        leading = threading.Thread(target=lead, daemon=True)
        leading.start()
        self._await("a server", lambda: not leading.is_alive())
        in_background("api-servers", servers.follow)

    def _component(self, name: str, command: list[str]) -> None:
        log.info(f"Running {name} {' '.join(command[1:])}")
        self._children.start(name, command)

    def _await(self, what: str, there: Callable[[], bool]) -> None:
        """Return when something is there; a component's end meanwhile is ours."""
        told = time.monotonic()
        while not there():
            self._check()
            if time.monotonic() - told > 30:
                log.info(f"Waiting for {what} to become available")
                told = time.monotonic()
            time.sleep(POLL_SECONDS)

    def _check(self) -> None:
        """End when a component has."""
        fate = self._children.dead()
        if fate is not None:
            name, code = fate
            how = f"exit status {code}" if code >= 0 else f"signal: {signal.Signals(-code).name}"
            log.fatal(f"{name} exited: {how}")


def reachable(question: Callable[[], bool]) -> bool:
    """Put a question for which no answer is a no."""
    try:
        return question()
    except RequestError:
        return False


def stop(*_: object) -> None:
    """Turn systemd's signal into an exception of the main thread."""
    log.info("Shutting down")
    raise SystemExit(0)


def import_images(node: Node) -> None:
    """Give containerd the image archives that lie in the data folder."""
    archives = sorted((node.agent / "images").glob("*.tar"))
    while not CONTAINERD_SOCKET.exists():
        time.sleep(POLL_SECONDS)
    for archive in archives:
        snapshotter = node.options.text("snapshotter", "overlayfs")
        command = ["ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io", "images", "import", f"--snapshotter={snapshotter}"]
        # Its socket may be there before containerd answers.
        for _ in range(10):
            done = subprocess.run([*command, str(archive)], capture_output=True, text=True, check=False)
            if done.returncode == 0:
                log.info(f"Imported images from {archive}")
                break
            time.sleep(0.5)
        else:
            log.error(f"Failed to import {archive}: {done.stderr.strip()}")


def notify(message: str) -> None:
    """Tell systemd something, where it listens."""
    place = os.environ.get("NOTIFY_SOCKET")
    if place:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), place.replace("@", "\0", 1) if place.startswith("@") else place)
