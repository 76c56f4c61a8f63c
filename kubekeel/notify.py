"""One message over HTTP at the end of a run: how it ended, as JSON."""

import ipaddress
import json
import os
import pathlib
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import Counter
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any

from . import __version__
from .render.findings import issues
from .render.headline import headline
from .result import SEVERITIES

SCHEMA = 1
"""Version of the message."""
TIMEOUT = 10.0
"""Seconds for each try."""
PAUSES = (1.0, 3.0)
"""Seconds between the tries."""
FAILURES, LENGTH = 5, 300
"""How many failures are told, and how many characters of each."""
TOKEN, TOKEN_FILE = "KUBEKEEL_NOTIFY_TOKEN", "KUBEKEEL_NOTIFY_TOKEN_FILE"
"""Environment variables with a bearer token, or the name of a file with one."""
PLAIN = "KUBEKEEL_NOTIFY_PLAIN"
"""Environment variable that allows http:// to other machines, where it is V(1)."""

Document = Mapping[str, Any]


def body(document: Document) -> dict[str, Any]:
    """Return what is sent for a result: nothing of what was seen on the nodes, no values and no files.

    Args:
        document: as kubekeel/result.schema.json says.
    """
    run = document["run"]
    # As the headline counts: what several nodes have alike is one.
    counted = Counter(issue.weight for issue in issues(document["findings"]))
    return {
        "schema": SCHEMA,
        "event": "kubekeel.run.ended",
        "run": run["id"],
        "command": run["command"],
        "check": run["check"],
        "cluster": document["cluster"]["name"],
        "status": run["status"],
        "exit_code": run["exit_code"],
        "began": run["began"],
        "ended": run["ended"],
        "findings": {severity: counted[severity] for severity in SEVERITIES},
        "failures": [cut(failure["message"]) for failure in document["failures"][:FAILURES]],
        "headline": headline(document),
    }


def cut(text: str) -> str:
    """Return the first line of a message, or as much of it as is sent."""
    line = next(iter(text.strip().splitlines()), "")
    return line if len(line) <= LENGTH else line[: LENGTH - 3] + "..."


def send(document: Document, url: str, token: str | None = None) -> str:
    """Send how a run ended, and return why that failed; an empty text where it did not.

    Tried again where the receiver cannot be reached or answers with 5xx; it may then get the message twice, and tells that by its
    run. Redirects are not followed: the token is for this receiver alone.

    Args:
        document: as kubekeel/result.schema.json says.
        url: of the receiver. https, or http on this machine.
        token: sent as a bearer token; by default that of the environment.
    """
    try:
        parts = urllib.parse.urlsplit(url)
        token = _token() if token is None else token
        problem = _unfit(parts, token)
    except ValueError as error:
        return str(error)
    if problem:
        return problem
    # A webhook's path is often its secret.
    where = f"{parts.scheme}://{parts.hostname}"
    headers = {"Content-Type": "application/json", "User-Agent": f"kubekeel/{__version__}"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, json.dumps(body(document)).encode(), headers, method="POST")  # noqa: S310
    # What is for this machine must not leave it in plain text, by a proxy.
    opener = urllib.request.build_opener(_Stay, *([urllib.request.ProxyHandler({})] if _is_here(parts.hostname or "") else []))
    for pause in (*PAUSES, None):
        problem, again = _tried(opener, request)
        if not problem:
            return ""
        if not again or pause is None:
            break
        time.sleep(pause)
    return f"{where} {problem}"


def _token() -> str:
    """Return the token of the environment; an empty text where there is none."""
    path = os.environ.get(TOKEN_FILE)
    if os.environ.get(TOKEN) or not path:
        return os.environ.get(TOKEN, "")
    try:
        return pathlib.Path(path).expanduser().read_text().strip()
    except (OSError, UnicodeError) as error:
        raise ValueError(f"the file {path} of {TOKEN_FILE} cannot be read: {getattr(error, 'strerror', 'it is no text')}") from error


def _unfit(parts: urllib.parse.SplitResult, token: str) -> str:
    """Return why a URL or a token is not taken; an empty text where it is.

    Raises:
        ValueError: the port is no number
    """
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return "the URL has to begin with https://, and to name a host"
    if parts.username or parts.password:
        return f"the URL must not hold a password; give a token in {TOKEN}"
    if parts.port == 0 or any(character.isspace() or not character.isprintable() for character in parts.geturl()):
        return "the URL cannot be understood"
    if not token.isascii() or not token.isprintable():
        return f"the token of {TOKEN} or {TOKEN_FILE} has characters that no token has"
    if parts.scheme == "http" and not _is_here(parts.hostname) and os.environ.get(PLAIN) != "1":
        return f"http:// sends all of it in plain text: use https://, or set {PLAIN}=1"
    return ""


def _is_here(host: str) -> bool:
    """Tell whether a host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class _Stay(urllib.request.HTTPRedirectHandler):
    """Follows no redirect; it becomes an error."""

    def redirect_request(self, *_: Any) -> None:
        """Ask for nothing else."""


def _tried(opener: urllib.request.OpenerDirector, request: urllib.request.Request) -> tuple[str, bool]:
    """Send a request; return what went wrong, and whether it may go well the next time."""
    try:
        with opener.open(request, timeout=TIMEOUT):
            return "", False
    except urllib.error.HTTPError as error:
        with error:
            moved = " (redirects are not followed)" if 300 <= error.code < 400 else ""
            return f"answered {error.code} {error.reason}{moved}".rstrip(), error.code >= 500
    except urllib.error.URLError as error:
        return f"cannot be reached: {error.reason}", True
    except (OSError, HTTPException) as error:
        return f"cannot be reached: {error or type(error).__name__}", True
