"""The commands of ``k3s``, and of the links ``kubectl`` and ``ctr`` beside it."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from . import config_file, flags, log
from .kubeconfigs import ADMIN_FILE
from .node import CONFIG, CONTAINERD_SOCKET, Facts, Node
from .service import Service

KUBECTL = "/opt/kubekeel-lab/kubectl"


def configuration(command: str, words: list[str]) -> flags.Options:
    """Return what files, command line and environment say."""
    try:
        from_files = config_file.arguments(Path(flags.config_place(words, os.environ, CONFIG)))
    except config_file.ConfigError as error:
        log.fatal(str(error))
    from_files, unknown = flags.split_unknown(command, from_files)
    for name in unknown:
        log.warning(f"Unknown flag {name} found in config.yaml, skipping")
    try:
        return flags.parse(command, [*from_files, *words])
    except flags.FlagError as error:
        print(f"Incorrect Usage: {error}\n", file=sys.stderr, flush=True)
        log.fatal(str(error))


def run(command: str, words: list[str]) -> NoReturn:
    """``k3s server`` and ``k3s agent``."""
    options = configuration(command, words)
    if command == "agent":
        for flag in ("token", "server"):
            if not options.text(flag) and not (flag == "token" and options.text("token-file")):
                log.fatal(f"--{flag} is required")
    url = options.text("server")
    if url and not url.startswith("https://"):
        log.fatal(f"only https:// URLs are supported, invalid scheme: {url}")
    Service(Node(command, options, Facts.read())).run()


def kubectl(words: list[str]) -> NoReturn:
    """``k3s kubectl``: as the administrator, where this node has his file."""
    if not os.environ.get("KUBECONFIG") and "--kubeconfig" not in " ".join(words) and os.access(ADMIN_FILE, os.R_OK):
        os.environ["KUBECONFIG"] = ADMIN_FILE
    os.execv(KUBECTL, ["kubectl", *words])  # noqa: S606


def ctr(words: list[str]) -> NoReturn:
    """``k3s ctr``: of K3s's own containerd."""
    os.environ.setdefault("CONTAINERD_ADDRESS", str(CONTAINERD_SOCKET))
    os.environ.setdefault("CONTAINERD_NAMESPACE", "k8s.io")
    os.execv("/usr/bin/ctr", ["ctr", *words])  # noqa: S606


def version(_: list[str]) -> NoReturn:
    """``k3s --version``."""
    print(f"k3s version {Facts.read().release.text} (kubekeel-lab)\ngo version go1.23.6")
    raise SystemExit(0)


COMMANDS: dict[str, Callable[[list[str]], NoReturn]] = {
    "server": lambda words: run("server", words),
    "agent": lambda words: run("agent", words),
    "kubectl": kubectl,
    "ctr": ctr,
    "--version": version,
    "-v": version,
}


def main(words: list[str]) -> NoReturn:
    """Dispatch to a command; the first word is the name under which the program was called."""
    called = Path(words[0]).name
    rest = words[1:] if called == "k3s" else [called, *words[1:]]
    if not rest or rest[0] not in COMMANDS:
        print(f"This stand-in for k3s knows: {', '.join(COMMANDS)}", file=sys.stderr)
        raise SystemExit(1)
    COMMANDS[rest[0]](rest[1:])
