"""A result as one page of HTML that holds all it needs: it loads nothing, and runs no script but its own."""

import base64
import hashlib
import importlib.resources
from collections.abc import Mapping
from typing import Any

import jinja2
from ansible_collections.kubekeel.ha.plugins.plugin_utils import drill_picture
from markupsafe import Markup

from . import facts, pictures, words
from .compare import compare, rows
from .findings import SEVERITIES, STATES, Document, issues
from .headline import headline, next_steps

KINDS = {
    "new": "New",
    "changed": "Changed",
    "gone": "Gone",
    "unseen": "Not looked at this time",
    "same": "Still there",
}
"""What became of findings since an earlier result."""
STATUS_WORDS = {
    "ok": "OK",
    "findings": "FINDINGS",
    "usage": "REFUSED",
    "incomplete": "INCOMPLETE",
    "failed": "FAILED",
    "refused": "REFUSED",
    "interrupted": "INTERRUPTED",
}

POLICY = "default-src 'none'; style-src '%s'; script-src '%s'; img-src data:; base-uri 'none'; form-action 'none'"
"""What the page may load: nothing; and run: what has these hashes."""


def render(document: Document, against: Document | None = None) -> str:
    """Return the page. Texts have to be clean, see C(words.clean)."""
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined, loader=jinja2.FunctionLoader(_template)
    )
    environment.filters |= {"span": words.span, "tenths": facts.tenths, "names": words.names, "shorten": words.shorten}
    environment.filters |= {
        "diff_lines": words.diff_lines,
        "count": words.count,
        "measured": facts.measured,
        "cases": facts.cases,
        "checks": facts.checks,
    }
    style, script = _template("page.css.j2").strip(), _template("page.js.j2").strip()
    return environment.get_template("page.html.j2").render(
        document=document,
        headline=headline(document),
        status=STATUS_WORDS[document["run"]["status"]],
        next_steps=next_steps(document),
        about=facts.about(document),
        tiles=_tiles(document),
        unread=facts.unexplained(document),
        issues=issues(document["findings"]),
        severities=SEVERITIES,
        states=STATES,
        changes=facts.changes(document),
        restarts=facts.RESTARTS,
        budget_steps=facts.budget_steps(document),
        budget_moments=facts.budget_moments(document),
        budget=document["budget"] and document["budget"][facts.budget_now(document)],
        pictures={name: _picture(picture) for name, picture in _pictures(document).items()},
        drill_title=document["drill"] and facts.drill_title(document["drill"]),
        against=against,
        compared=_compared(document, against) if against else None,
        kinds=KINDS,
        style=_picture(style),
        script=_picture(script),
        policy=POLICY % (_hash(style), _hash(script)),
    )


def _template(name: str) -> str:
    return (importlib.resources.files(__package__) / "templates" / name).read_text(encoding="utf-8")


def _hash(text: str) -> str:
    """Return what a content security policy calls this text, and no other."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _picture(made: str) -> Markup:
    """Return what is markup already: made here, and escaped by who made it."""
    return Markup(made)  # noqa: S704


def _pictures(document: Document) -> dict[str, str]:
    return {"budget": pictures.budget(document), "gates": pictures.gates(document), "drill": _drill_picture(document["drill"])}


def _drill_picture(drill: Mapping[str, Any] | None) -> str:
    """Return the picture that the collection draws of a drill; empty where there is none."""
    return drill_picture.svg(drill) if drill else ""


def _tiles(document: Document) -> list[tuple[str, str, str]]:
    """Return the figures that say most: what, its words, and its tone."""
    found = [issue.weight for issue in issues(document["findings"])]
    nouns = {"critical": "critical", "warning": "warnings", "info": "to be known"}
    tiles = (
        [(str(found.count(grave)), nouns[grave], grave if grave in found else "quiet") for grave in SEVERITIES]
        if document["findings"]
        else []
    )
    spare = document["cluster"]["servers_to_spare"]
    if spare is not None:
        tiles.append((str(spare), "servers that may be lost", "quiet" if spare else "critical"))
    moments = facts.budget_steps(document)
    for label, before, after in moments:
        if "gone" in label and before and after:
            ends = [words.span(before["worst"])] + ([words.span(after["worst"])] if after["worst"] != before["worst"] else [])
            tiles.append((" → ".join(ends), f"{label} after a loss, at worst", "quiet"))
    if document["drill"]:
        requests, gone = document["drill"]["requests"], document["drill"]["slowest"]["endpoint_gone"]
        tiles.append((facts.tenths(gone), "until the endpoint was gone, measured", "quiet"))
        tiles.append((f"{requests['failed']} of {requests['total']}", "requests failed", "quiet"))
    return tiles


def _compared(document: Document, against: Document) -> dict[str, Any]:
    compared = compare(document, against)
    return {"findings": {kind: issues(compared["findings"][kind]) for kind in KINDS}, "rows": rows(compared)}
