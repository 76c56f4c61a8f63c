"""Debian's mirror, by what the host's apt knows, which is never changed; and lists of packages of our own."""

from dataclasses import dataclass
from pathlib import Path

from .command import run

SUITE = "bookworm"
FALLBACK_URI = "http://deb.debian.org/debian"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
# Settings of the host's apt without which its mirror may be out of reach: proxies, mirrors whose Release has expired.
ACQUIRE_PREFIXES = ("Acquire::http::", "Acquire::https::", "Acquire::Check-")


@dataclass(frozen=True)
class Mirror:
    """A Debian archive."""

    uri: str

    def line(self, kind: str) -> str:
        """Return a sources.list line; ``kind`` is ``deb`` or ``deb-src``."""
        return f"{kind} [signed-by={KEYRING}] {self.uri} {SUITE} main\n"


def choose_mirror(targets: str) -> Mirror:
    """Pick the mirror out of ``apt-get indextargets`` lines of the form ``URI CODENAME``.

    The suite's own entry wins; security and update archives do not hold the whole suite.
    """
    for line in targets.splitlines():
        uri, _, codename = line.strip().partition(" ")
        if codename == SUITE and uri.startswith(("http://", "https://", "file:")):
            return Mirror(uri.rstrip("/"))
    return Mirror(FALLBACK_URI)


def host_mirror() -> Mirror:
    """Return the mirror that the host itself uses for the lab's suite, else Debian's own."""
    targets = run(["apt-get", "indextargets", "--format", "$(REPO_URI) $(CODENAME)", "Created-By: Packages", "Origin: Debian"])
    return choose_mirror(targets)


def acquire_options() -> list[str]:
    """Return the host's settings of ``ACQUIRE_PREFIXES`` as lines of apt.conf."""
    dump = run(["apt-config", "dump"])
    return [line for line in dump.splitlines() if line.startswith(ACQUIRE_PREFIXES) and not line.endswith('"";')]


def own_lists(scratch: Path, kind: str) -> list[str]:
    """Fetch the lists of the lab's suite, whatever release the host is, and return the options with which apt uses them.

    Args:
        scratch: where they are kept.
        kind: ``deb`` or ``deb-src``.

    Raises:
        LabError: the mirror is out of reach
    """
    lists, sources = scratch / "lists", scratch / "sources.list"
    (lists / "partial").mkdir(parents=True)
    sources.write_text(host_mirror().line(kind))
    settings = {
        "Dir::Etc::SourceList": sources,
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::State::Lists": lists,
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "APT::Sandbox::User": "root",
    }
    options = [f"-o{name}={value}" for name, value in settings.items()]
    run(["apt-get", "--quiet", *options, "update"], timeout=300)
    return options
