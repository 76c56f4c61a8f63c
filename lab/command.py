"""Run a program on the host and turn its failure into a message."""

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import LabError

# An ordinary user's PATH lacks the sbin folders, where runc and iptables live.
SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin", "/sbin"])


def find_program(name: str) -> str | None:
    """Return the path of a program, or None."""
    return shutil.which(name, path=SEARCH_PATH)


def last_lines(text: str, count: int = 15) -> str:
    """Return the last ``count`` lines of a text that are not empty."""
    return "\n".join([line for line in text.splitlines() if line.strip()][-count:])


def run(
    arguments: Sequence[str | Path],
    *,
    stdin: bytes | None = None,
    timeout: float | None = None,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> str:
    """Run a program to its end and return its standard output.

    ``timeout`` is in seconds, None for no limit. ``log`` is a file that takes the output of a long build instead of
    memory; nothing is returned then.

    Raises:
        LabError: the program is missing, failed or took too long
    """
    words = [str(argument) for argument in arguments]
    shown = " ".join(words[:6])
    environment = {**os.environ, "PATH": SEARCH_PATH, **(environ or {})}
    try:
        if log is not None:
            with log.open("ab") as sink:
                done = subprocess.run(words, input=stdin, stdout=sink, stderr=sink, timeout=timeout, cwd=cwd, env=environment, check=False)
            output, complaint = "", log.read_text(errors="replace") if done.returncode else ""
        else:
            done = subprocess.run(words, input=stdin, capture_output=True, timeout=timeout, cwd=cwd, env=environment, check=False)
            output, complaint = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    except FileNotFoundError as error:
        raise LabError(f"{words[0]} is not installed; 'python -m lab requirements' installs it") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"'{shown}' did not end within {timeout:.0f} s") from error
    if done.returncode:
        raise LabError(f"'{shown}' ended with code {done.returncode}:\n{last_lines(complaint or output)}")
    return output
