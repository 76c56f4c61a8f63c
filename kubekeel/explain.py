"""What stands behind the id of a finding: why it matters, what to do, who says so, which variable sets it."""

import difflib
import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import guards, known_bugs, settings, timing
from ansible_collections.kubekeel.ha.plugins.module_utils.release import show_release
from ansible_collections.kubekeel.ha.plugins.plugin_utils import profiles
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from . import verify
from .errors import UsageError
from .result import RULES
from .terminal import Terminal

SETTING, DEAD_FLAG, GUARD, BUG, RULE, REMEDY, FINDING, CHECK = (
    "setting",
    "flag that is gone",
    "guard",
    "bug",
    "rule among durations",
    "remedy",
    "finding",
    "verification",
)
KINDS: Mapping[str, str] = {
    REMEDY: "What a remediation mends, the tags of kubekeel remediate",
    SETTING: "Settings that kubekeel knows",
    RULE: "What durations have to keep among each other",
    GUARD: "What speaks against a change now",
    BUG: "Bugs of releases",
    DEAD_FLAG: "Flags with which a component does not start",
    FINDING: "What else a result may hold",
    CHECK: "What kubekeel verify checks",
}
"""Every kind with its headline, in the order of the overview."""

BESIDE = 38
"""Characters of an id up to which its title stands on the same line."""


@dataclass(frozen=True)
class Explanation:
    """What is known of an id."""

    id: str
    kind: str
    """One of C(KINDS)."""
    title: str
    why: str
    remedy: str
    """What to do."""
    source: str
    """Where that can be read."""
    settable_by: tuple[str, ...] = ()
    """Variables of the inventory that set it."""


# A variable of a role may set something under another name, which no file of the role shows.
_UNDER_ANOTHER_NAME = {"server": ("k3s_registration_address",)}
_ROLES = profiles.FOLDER.parent / "roles"
_REMEDIES = profiles.FOLDER.parent / "playbooks" / "tasks" / "remedies.yml"
_WORD = re.compile(r"[a-z_][a-z0-9_]*")
# With %(state)s a word is left open. Where it touches a word it is a part that may be empty, and is left out.
_OPEN = re.compile(r"(?P<glued>(?<=[\w)])%\(\w+\)s|%\(\w+\)s(?=\w))|%\((?P<name>\w+)\)[-+ #0-9.]*[a-z]|%%")
_MARKUP = re.compile(r"\b[A-Z]\(([^()]*)\)")


def explain(identifier: str) -> Explanation:
    """Return what is known of an id. The dashes of a flag may stand before it.

    Raises:
        UsageError: nothing is; names ids that are alike.
    """
    found = _all().get(identifier) or _all().get(identifier.lstrip("-"))
    if found:
        return found
    alike = suggest(identifier)
    meant = f"Did you mean {', '.join(alike[:-1]) + ' or ' if alike[1:] else ''}{alike[-1]}? " if alike else ""
    raise UsageError(f"Nothing is known of '{identifier}'. {meant}'kubekeel explain' lists every id")


def known() -> list[str]:
    """Return every id, by kind."""
    return list(_all())


def suggest(identifier: str) -> list[str]:
    """Return up to three ids that are like one that is not known, the likeliest first."""
    lower = {name.lower(): name for name in known()}
    wanted = identifier.lower().lstrip("-")
    alike = difflib.get_close_matches(wanted, lower, n=3, cutoff=0.6)
    within = [name for name in lower if len(wanted) > 2 and wanted in name]
    return [lower[name] for name in dict.fromkeys([*within, *alike])][:3]


def show(identifier: str = "") -> None:
    """Print what is known of an id; without one, which ids there are.

    Raises:
        UsageError: nothing is known of it.
    """
    Terminal(highlight=False).print(draw(explain(identifier)) if identifier else overview())


def draw(explanation: Explanation) -> RenderableType:
    """Return an explanation for the screen."""
    parts: list[RenderableType] = [Text.assemble((explanation.id, "bold"), "  ", (explanation.kind, "dim")), Text(explanation.title)]
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True, style="bold")
    table.add_column(overflow="fold")
    told = (
        ("why", explanation.why),
        ("to do", explanation.remedy),
        ("set by", "\n".join(explanation.settable_by)),
        ("source", explanation.source),
    )
    for name, text in told:
        if text:
            table.add_row(name, Text(text))
    return Group(*parts, Padding(table, (1, 0, 0, 0)))


def overview() -> RenderableType:
    """Return every id with its title, by kind, for the screen."""
    parts: list[RenderableType] = []
    for kind, headline in KINDS.items():
        entries = [entry for entry in _all().values() if entry.kind == kind]
        if entries:
            parts += [Text(headline, style="bold"), Padding(_listed(entries), (0, 0, 1, 2))]
    return Group(*parts)


def _listed(entries: Sequence[Explanation]) -> RenderableType:
    # An id is to be copied, so none is broken in two: long ones stand on lines of their own.
    if max(len(entry.id) for entry in entries) > BESIDE:
        return Group(*(Group(Text(entry.id), Padding(Text(entry.title, style="dim"), (0, 0, 0, 2))) for entry in entries))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for entry in entries:
        table.add_row(Text(entry.id), Text(entry.title, style="dim"))
    return table


@functools.cache
def _all() -> dict[str, Explanation]:
    sources = (_remedies, _settings, _rules, _guards, _bugs, _dead_flags, _findings, _checks)
    return {entry.id: entry for entry in itertools.chain.from_iterable(source() for source in sources)}


def _findings() -> Iterator[Explanation]:
    for identifier, rule in RULES.items():
        yield Explanation(identifier, FINDING, rule.title, rule.why, rule.remedy, rule.source)


def _remedies() -> Iterator[Explanation]:
    for role in remedies():
        spec = _specification(role)
        yield Explanation(
            role,
            REMEDY,
            _plain(spec["short_description"]),
            " ".join(_plain(text) for text in _texts(spec["description"])),
            f"kubekeel remediate --tags {role}",
            f"ansible-doc -t role kubekeel.ha.{role}",
            tuple(spec["options"]),
        )


def remedies() -> list[str]:
    """Return the roles that a remediation runs, in their order."""
    return [str(task["tags"]) for task in yaml.safe_load(_REMEDIES.read_text(encoding="utf-8"))]


def _settings() -> Iterator[Explanation]:
    variables = _variables()
    for name, setting in settings.SETTINGS.items():
        setters = variables.get(name, ())
        role = next((role for role in remedies() for setter in setters if setter.startswith(role + "_")), "")
        yield Explanation(
            name,
            SETTING,
            _kind_of_setting(name, setting),
            setting.why,
            f"kubekeel remediate --tags {role} sets it" if role else "kubekeel sets it where another setting needs it",
            setting.source,
            tuple(_with_profiles(setter) for setter in setters),
        )


def _kind_of_setting(name: str, setting: settings.Setting) -> str:
    if setting.components:
        return f"A flag of {_listing(setting.components)}"
    if "." in name:
        return "A sysctl of the node"
    return "An environment variable of the unit that runs Kubernetes" if name.isupper() else "A key of a configuration file"


def _rules() -> Iterator[Explanation]:
    options = {option: role for role in remedies() for option in _specification(role)["options"]}
    for rule in timing.RULES:
        setters = tuple(option for name in rule.names for option, role in options.items() if option == f"{role}_{name}")
        setters = setters or tuple(option for name in rule.names for option in options if option.endswith(f"_{name}"))
        yield Explanation(
            "timing:" + ",".join(rule.names),
            RULE,
            rule.text.partition(",")[0],
            rule.text,
            "change the variables so that it holds; a set that breaks it is refused before anything changes",
            rule.source,
            tuple(_with_profiles(setter) for setter in setters),
        )


def _guards() -> Iterator[Explanation]:
    for name, guard in guards.GUARDS.items():
        remedy = _opened(guard.cure)
        if guard.refuses:
            remedy += f"; to go on all the same: {guards.accept([name])}"
        yield Explanation(name, GUARD, _opened(guard.what), guard.why, remedy, guard.source, ("preflight_accept",) if guard.refuses else ())


def _bugs() -> Iterator[Explanation]:
    for bug in known_bugs.BUGS:
        mended = ", ".join("%d.%d.%d" % (*line, bug.mended[line]) for line in sorted(bug.mended, reverse=True))
        upgrade = f"mended in {mended}; until then: " if mended else ""
        nodes = "any node" if bug.kinds == known_bugs.ANY else _listing(bug.kinds)
        yield Explanation(bug.source, BUG, f"A bug of {bug.distribution}: {nodes}", bug.what, upgrade + bug.cure, bug.source)


def _dead_flags() -> Iterator[Explanation]:
    for name, flag in settings.DEAD_FLAGS.items():
        gone = f"is gone since {show_release(flag.gone)}" if flag.gone else "does not exist"
        of = "every component" if flag.components == settings.COMPONENTS else _listing(flag.components)
        yield Explanation(
            name, DEAD_FLAG, f"--{name} {gone}", flag.why, f"take it out of the flags of {of}, which does not start with it", flag.source
        )


def _checks() -> Iterator[Explanation]:
    """Return the checks of the verification, from the table that it keeps."""
    for name, check in verify.CHECKS.items():
        yield Explanation(name, CHECK, check.title, check.why, check.remedy, check.source)


@functools.cache
def _specification(role: str) -> Mapping[str, Any]:
    text = (_ROLES / role / "meta" / "argument_specs.yml").read_text(encoding="utf-8")
    found: Mapping[str, Any] = yaml.safe_load(text)["argument_specs"]["main"]
    return found


def _variables() -> dict[str, tuple[str, ...]]:
    """Return for each setting the variables that a role makes its value of, as the role's own files say."""
    found: dict[str, tuple[str, ...]] = dict(_UNDER_ANOTHER_NAME)
    for role in remedies():
        options = _specification(role)["options"]
        for path in sorted([*(_ROLES / role / "vars").glob("*.yml"), *(_ROLES / role / "tasks").glob("*.yml")]):
            for name, value in _pairs(yaml.safe_load(path.read_text(encoding="utf-8"))):
                setters = tuple(dict.fromkeys(word for word in _WORD.findall(value) if word in options))
                if name in settings.SETTINGS and setters:
                    found.setdefault(name, setters)
    return found


def _pairs(value: Any) -> Iterator[tuple[str, str]]:
    """Return every key with its value, wherever the value is a template."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str) and "{{" in inner:
                yield str(key), inner
            yield from _pairs(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _pairs(inner)


def _with_profiles(variable: str) -> str:
    """Return a variable with the values that the profiles have for it."""
    values = {name: profiles.load(name)["values"].get(variable, "") for name in profiles.BY_SPEED}
    told = ", ".join(f"{name} {'null' if value is None else value}" for name, value in values.items() if value != "")
    return f"{variable} ({told})" if told else variable


def _opened(text: str) -> str:
    """Return a text of a guard with names in capitals for what differs from case to case."""

    def name(match: re.Match[str]) -> str:
        if match["glued"]:
            return ""
        return match["name"].upper() if match["name"] else "%"

    return _OPEN.sub(name, text)


def _plain(text: str) -> str:
    """Return a text of a role without the markup of ansible-doc."""
    return _MARKUP.sub(lambda match: match[1].partition("#")[0], text)


def _listing(words: Sequence[str]) -> str:
    return " and ".join([", ".join(words[:-1]), words[-1]] if words[1:] else words)


def _texts(value: str | Iterable[str]) -> list[str]:
    return [value] if isinstance(value, str) else list(value)
