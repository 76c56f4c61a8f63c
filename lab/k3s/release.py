"""Which K3s the nodes run, or say that they run."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..errors import UsageError

VARIABLE = "LAB_K3S_RELEASE"
DEFAULT = "v1.32.3+k3s1"
PATTERN = re.compile(r"v\d+\.\d+\.\d+(-rc\d+)?\+k3s\d+")
BINARY_VARIABLE = "KUBEKEEL_LAB_K3S"


@dataclass(frozen=True)
class Choice:
    """What the user wants: a release for the stand-in, or a binary of his own."""

    release: str
    binary: Path | None

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] = os.environ) -> "Choice":
        """Read and check the user's variables.

        Raises:
            UsageError: one cannot be meant
        """
        release = environ.get(VARIABLE) or DEFAULT
        if not PATTERN.fullmatch(release):
            raise UsageError(f"{VARIABLE}={release} is no release of K3s; one looks like {DEFAULT}")
        own = environ.get(BINARY_VARIABLE)
        binary = Path(own).expanduser().resolve() if own else None
        if binary is not None and not binary.is_file():
            raise UsageError(f"{BINARY_VARIABLE}={own} is no file")
        return cls(release, binary)
