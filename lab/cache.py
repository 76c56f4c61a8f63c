"""Where the lab keeps what outlives it (caches) and what does not (one folder for each lab)."""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

SCRATCH_PREFIX = "tmp-"


@dataclass(frozen=True)
class Cache:
    """Paths below one root folder."""

    root: Path

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Cache":
        """Take ``KUBEKEEL_CACHE``, else ``kubekeel`` below the XDG cache folder."""
        chosen = environ.get("KUBEKEEL_CACHE")
        if chosen:
            return cls(Path(chosen).expanduser().resolve())
        base = environ.get("XDG_CACHE_HOME") or "~/.cache"
        return cls(Path(base).expanduser().resolve() / "kubekeel")

    def kube(self, version: str) -> Path:
        """Folder of the kube-* binaries of one release, for instance ``v1.20.2``."""
        return self.root / "kube" / version

    def kubectl(self) -> Path:
        """A kubectl for releases whose folder has none."""
        return self.root / "kubectl"

    def state(self, lab: str) -> Path:
        """Folder of one standing lab: keys, known hosts, certificates."""
        return self.root / "labs" / lab

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """Yield a temporary folder on the cache's own file system: results can be renamed into place."""
        self.root.mkdir(parents=True, exist_ok=True)
        self._remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=SCRATCH_PREFIX, dir=self.root))
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def _remove_abandoned(self) -> None:
        """Remove scratch folders of builds that were killed: they are gigabytes, and nobody holds their lock."""
        for folder in self.root.glob(f"{SCRATCH_PREFIX}*"):
            descriptor = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)

    @contextlib.contextmanager
    def lock(self, what: str) -> Iterator[None]:
        """Keep two processes from filling the same cache, or changing the same lab, at once."""
        folder = self.root / "locks"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / what).open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
