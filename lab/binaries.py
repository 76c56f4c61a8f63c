"""The Kubernetes programs: built from Debian's source package, or taken from a folder of the user's."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import requirements
from .apt import SUITE, own_lists
from .cache import Cache
from .command import find_program, run
from .console import Steps
from .errors import LabError

VERSION = "v1.20.2"
SOURCE_PACKAGE = "kubernetes"
# Debian's default Go may be newer than what this release of Kubernetes compiles with.
GO_BIN = Path("/usr/lib/go-1.19/bin")
COMPONENTS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet")
BUILT = (*COMPONENTS, "kubectl")
OWN_FOLDER = "KUBEKEEL_LAB_BIN"


@dataclass(frozen=True)
class KubeBinaries:
    """A complete set of programs."""

    folder: Path
    kubectl: Path
    version: str


def lacking(folder: Path, names: tuple[str, ...]) -> list[str]:
    """Return the names that are not executable files in ``folder``."""
    return [name for name in names if not (folder / name).is_file() or not os.access(folder / name, os.X_OK)]


def read_version(kubelet: Path) -> str:
    """Ask a kubelet for its release, for instance ``v1.20.2``.

    Raises:
        LabError: the program does not answer as a kubelet does
    """
    match = re.search(r"v\d+\.\d+\.\d+\S*", run([kubelet, "--version"], timeout=30))
    if match is None:
        raise LabError(f"'{kubelet} --version' names no release")
    return match.group()


def find_kubectl(folder: Path, cache: Cache) -> Path:
    """Return kubectl of the folder, else of the cache, else of the host: any release will do.

    Raises:
        LabError: there is none
    """
    on_host = find_program("kubectl")
    for candidate in (folder / "kubectl", cache.kubectl(), *([Path(on_host)] if on_host else [])):
        if candidate.is_file():
            return candidate.resolve()
    raise LabError(f"No kubectl: put one into {folder} or at {cache.kubectl()}")


def kube_binaries(cache: Cache, steps: Steps, environ: Mapping[str, str] = os.environ) -> KubeBinaries:
    """Return the programs to run, building them first where neither cache nor user has them.

    Raises:
        LabError: the user's folder is incomplete, or the build is not possible or failed
    """
    own = environ.get(OWN_FOLDER)
    if own:
        folder = Path(own).expanduser().resolve()
        absent = lacking(folder, COMPONENTS)
        if absent:
            raise LabError(f"{OWN_FOLDER}={folder} lacks executable files: {', '.join(absent)}")
        return KubeBinaries(folder, find_kubectl(folder, cache), read_version(folder / "kubelet"))
    folder = cache.kube(VERSION)
    if lacking(folder, BUILT):
        with cache.lock("kube"):
            if lacking(folder, BUILT):
                build(cache, steps)
    return KubeBinaries(folder, folder / "kubectl", VERSION)


def needs_build(cache: Cache, environ: Mapping[str, str] = os.environ) -> bool:
    """Tell whether ``kube_binaries`` would have to compile."""
    return not environ.get(OWN_FOLDER) and bool(lacking(cache.kube(VERSION), BUILT))


def build(cache: Cache, steps: Steps) -> None:
    """Compile Kubernetes from Debian's source package into the cache (about 7 minutes on two cores).

    Raises:
        LabError: a package is missing, the source cannot be had, or the compiler failed
    """
    requirements.require(requirements.TO_BUILD_KUBERNETES, "Building Kubernetes")
    with cache.scratch() as scratch:
        with steps.step(f"fetch the source of Kubernetes {VERSION} (34 MB)"):
            source = fetch_source(scratch)
        with steps.step(f"compile Kubernetes {VERSION} (once; about 7 minutes on two cores)"):
            compile_source(source, scratch)
        finished = scratch / "finished"
        finished.mkdir()
        for name in BUILT:
            shutil.move(next(source.glob(f"_output/local/bin/linux/*/{name}")), finished / name)
        built = read_version(finished / "kubelet")
        if built != VERSION:
            raise LabError(f"The build says it is {built}, not {VERSION}")
        target = cache.kube(VERSION)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        finished.rename(target)


def fetch_source(scratch: Path) -> Path:
    """Download and unpack the source package with lists of our own, and return the unpacked folder.

    Raises:
        LabError: the mirror is out of reach or has another release
    """
    options = own_lists(scratch, "deb-src")
    run(["apt-get", "--quiet", *options, "source", "--download-only", SOURCE_PACKAGE], cwd=scratch, timeout=900)
    description = next(scratch.glob("*.dsc"))
    # Debian numbers this release 1.20.5+really1.20.2.
    if f"really{VERSION.removeprefix('v')}-" not in description.name:
        raise LabError(f"{SUITE} now has {description.name}, this lab builds {VERSION}; set {OWN_FOLDER} instead")
    run(["dpkg-source", "--extract", description, scratch / "source"], timeout=300)
    return scratch / "source"


def compile_source(source: Path, scratch: Path) -> None:
    """Run Kubernetes' own makefile.

    Raises:
        LabError: with the compiler's last lines
    """
    commands = " ".join(f"cmd/{name}" for name in BUILT)
    environment = {
        "PATH": os.pathsep.join([str(GO_BIN), os.environ.get("PATH", ""), "/usr/sbin"]),
        "GOCACHE": str(scratch / "go-cache"),
        "GOPATH": str(scratch / "go"),
        "TMPDIR": str(scratch),
        "GOFLAGS": "",
        "GOPROXY": "off",
    }
    run(
        [
            "nice",
            "make",
            f"WHAT={commands}",
            f"KUBE_GIT_VERSION={VERSION}",
            "KUBE_GIT_COMMIT=archive",
            "KUBE_GIT_TREE_STATE=archive",
            "GOLDFLAGS=-s -w",
        ],
        cwd=source,
        environ=environment,
        log=scratch / "build.log",
        timeout=3 * 3600,
    )
