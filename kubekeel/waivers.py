"""Findings that somebody decided to live with, for a reason and for a time."""

import datetime
import fnmatch
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from .errors import UsageError

LONGEST = datetime.timedelta(days=366)
"""For how long a waiver may be given. Then somebody has to look at it again."""

COUNTS = ("fail", "warn", "unknown")
"""Statuses of findings that there is something to waive of."""

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NULL = "tag:yaml.org,2002:null"
_EXAMPLE = "'id', 'reason', 'expires' and, where it is not for all nodes, 'nodes'"


@dataclass(frozen=True)
class Waiver:
    """A decision that a finding does not count."""

    id: str
    """Of the finding, exactly, or with C(*), C(?) and C([...]) as in names of files."""
    nodes: tuple[str, ...]
    """On which nodes; empty for all, and for what concerns the whole cluster."""
    reason: str
    expires: datetime.date
    """The last day on which it counts."""
    where: str
    """File and line, for messages."""

    def names(self, finding: Mapping[str, Any]) -> bool:
        """Tell whether it is about a finding."""
        return (not self.nodes or finding["node"] in self.nodes) and (
            finding["id"] == self.id or fnmatch.fnmatchcase(finding["id"], self.id)
        )


def today() -> datetime.date:
    """Return the day in UTC, as the result names days."""
    return datetime.datetime.now(datetime.UTC).date()


def load(path: pathlib.Path, now: datetime.date | None = None) -> list[Waiver]:
    """Read a file of waivers.

    Args:
        path: the file, YAML.
        now: the day from which on a year is counted; by default today.

    Raises:
        UsageError: it cannot be read, or something in it is not as it has to be. Says all of it, each with its line.
    """
    try:
        document = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}): give the file of your waivers") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = ": put what begins with '*' in quotes" if "alias" in f"{error.context} {error.problem}" else ""
        raise UsageError(f"{path}:{mark.line + 1 if mark else 1}: this is not YAML, {error.problem}{hint}") from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UsageError(f"{path} is not YAML in UTF-8: {' '.join(str(error).split())}") from None
    problems: list[str] = []
    found = list(_waivers(document, str(path), now or today(), problems))
    if problems:
        raise UsageError("\n".join(problems))
    return found


def apply(findings: Sequence[Mapping[str, Any]], waivers: Sequence[Waiver], now: datetime.date) -> tuple[list[dict[str, Any]], list[str]]:
    """Return findings with their waivers, and what is to be said of the waivers.

    What concerns the whole cluster, is critical and could not be read is never waived: nobody knows what it would be.

    Args:
        findings: as in the result; they stay as they are.
        waivers: of several that name a finding the first one counts.
        now: the day.

    Returns:
        The findings with C(waiver) filled where one counts, and a sentence for each waiver that has expired, that waives nothing, or that
        is for what cannot be waived.
    """
    valid = [waiver for waiver in waivers if now <= waiver.expires]
    filled = []
    for finding in findings:
        waiver = next((waiver for waiver in valid if waiver.names(finding)), None) if _can_be_waived(finding) else None
        mark = {"reason": waiver.reason, "expires": waiver.expires.isoformat()} if waiver else None
        filled.append({**finding, "waiver": mark})
    return filled, [sentence for waiver in waivers for sentence in _said(waiver, findings, now)]


def _can_be_waived(finding: Mapping[str, Any]) -> bool:
    return finding["status"] in COUNTS and not _unread(finding)


def _unread(finding: Mapping[str, Any]) -> bool:
    of_cluster = finding["kind"] == "cluster" or not finding["node"]
    return of_cluster and finding["status"] == "unknown" and finding["severity"] == "critical"


def _said(waiver: Waiver, findings: Sequence[Mapping[str, Any]], now: datetime.date) -> Iterator[str]:
    named = [finding for finding in findings if finding["status"] in COUNTS and waiver.names(finding)]
    head = f"{waiver.where}: the waiver for {waiver.id}{' on ' + ', '.join(waiver.nodes) if waiver.nodes else ''}"
    if now > waiver.expires:
        end = "look at it again, then give it a new date or remove it" if named else "nothing needs it any more, remove it"
        yield f"{head} expired on {waiver.expires.isoformat()} and does not count: {end}"
    elif not named:
        yield f"{head} waives nothing, no finding of this run has that id there: correct or remove it"
    for identifier in sorted({finding["id"] for finding in named if _unread(finding)}):
        yield f"{head} does not count for {identifier}: it could not be read, and what could not be read cannot be waived"


def _waivers(document: yaml.Node | None, path: str, now: datetime.date, problems: list[str]) -> Iterator[Waiver]:
    if document is None:
        problems.append(f"{path}:1: it is empty: write 'waivers:' and a list below it, or leave the file away")
        return
    top = _mapping(document, path, ("waivers",), ("waivers",), "the file holds 'waivers:' and a list below it", problems)
    entries = top.get("waivers")
    if entries is None:
        return
    if not isinstance(entries, yaml.SequenceNode):
        problems.append(f"{_where(path, entries)}: 'waivers' is a list: begin each waiver with '- id:'")
        return
    for entry in entries.value:
        before = len(problems)
        keys = ("id", "nodes", "reason", "expires")
        given = _mapping(entry, path, keys, ("id", "reason", "expires"), f"a waiver has {_EXAMPLE}", problems)
        identifier = _text(given.get("id"), path, "id", "the id of a finding, as 'kubekeel explain' lists them", problems)
        if identifier and not any(character.isalnum() for character in identifier):
            problems.append(f"{_where(path, given['id'])}: '{identifier}' would waive everything: name the findings")
        reason = _text(given.get("reason"), path, "reason", "a sentence that says why it does not count", problems)
        nodes = _nodes(given.get("nodes"), path, problems)
        expires = _date(given.get("expires"), path, now, problems)
        if len(problems) == before and expires:
            yield Waiver(identifier, nodes, reason, expires, _where(path, entry))


def _where(path: str, node: yaml.Node) -> str:
    return f"{path}:{node.start_mark.line + 1}"


def _mapping(
    node: yaml.Node, path: str, known: Sequence[str], mandatory: Sequence[str], told: str, problems: list[str]
) -> dict[str, yaml.Node]:
    if not isinstance(node, yaml.MappingNode):
        problems.append(f"{_where(path, node)}: this is no mapping: {told}")
        return {}
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
        if name not in known:
            problems.append(f"{_where(path, key)}: unknown key '{name}': {told}")
        elif name in found:
            problems.append(f"{_where(path, key)}: '{name}' stands here twice: remove one of them")
        else:
            found[name] = value
    problems.extend(f"{_where(path, node)}: '{name}' is missing: {told}" for name in mandatory if name not in found)
    return found


def _text(node: yaml.Node | None, path: str, name: str, told: str, problems: list[str]) -> str:
    if node is None:
        return ""
    text = node.value.strip() if isinstance(node, yaml.ScalarNode) and node.tag != _NULL else ""
    if not text:
        problems.append(f"{_where(path, node)}: '{name}' says nothing: give {told}")
    return str(text)


def _nodes(node: yaml.Node | None, path: str, problems: list[str]) -> tuple[str, ...]:
    if node is None:
        return ()
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        problems.append(f"{_where(path, node)}: 'nodes' is a list of names, such as [server1]: leave it away for all nodes")
        return ()
    return tuple(_text(entry, path, "nodes", "names of nodes as the inventory has them", problems) for entry in node.value)


def _date(node: yaml.Node | None, path: str, now: datetime.date, problems: list[str]) -> datetime.date | None:
    if node is None:
        return None
    text = str(node.value) if isinstance(node, yaml.ScalarNode) else ""
    try:
        if not _DATE.fullmatch(text):
            raise ValueError
        found = datetime.date.fromisoformat(text)
    except ValueError:
        problems.append(f"{_where(path, node)}: 'expires' is no date: write it as {(now + LONGEST).isoformat()}")
        return None
    if found - now > LONGEST:
        problems.append(
            f"{_where(path, node)}: 'expires' is more than {LONGEST.days} days ahead: give {(now + LONGEST).isoformat()} at the latest, "
            "and look at it again then"
        )
    return found
