"""Results of runs as text, JSON, JUnit, Markdown, a page of HTML, and metrics of Prometheus. Pure."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import UsageError
from . import compare, html, junit, markdown, prometheus, text
from .words import clean

Document = Mapping[str, Any]
Renderer = Callable[[Document, Document | None], str]


@dataclass(frozen=True)
class Format:
    """How a result can be shown."""

    about: str
    """What it is good for."""
    ending: str
    """Of its file's name, without a dot."""
    render: Renderer
    """Takes a result, and an earlier one to compare with or None."""
    compares: bool = True
    """Whether it can show what changed since an earlier result."""


def _json(document: Document, against: Document | None) -> str:
    whole: Document = document
    if against is not None:
        whole = {"schema": 1, "result": document, "against": against["run"]["id"], "compared": compare.compare(document, against)}
    return json.dumps(whole, indent=2) + "\n"


def _cleaned(renderer: Renderer) -> Renderer:
    return lambda document, against: renderer(clean(document), clean(against))


FORMATS: dict[str, Format] = {
    "text": Format("for a terminal", "txt", text.render),
    "json": Format("the result itself, for programs", "json", _json),
    "junit": Format("test cases, for continuous integration", "xml", _cleaned(lambda document, _: junit.render(document)), compares=False),
    "markdown": Format("for a pull request or a ticket", "md", _cleaned(markdown.render)),
    "html": Format("one page with pictures, for people", "html", _cleaned(html.render)),
    "prometheus": Format(
        "metrics, for the text-file collector of the node exporter",
        "prom",
        _cleaned(lambda document, _: prometheus.render(document)),
        compares=False,
    ),
}
"""Every format by its name."""


def render(document: Document, format: str, against: Document | None = None) -> str:
    """Return a result in a format.

    Args:
        document: the result, as kubekeel/result.schema.json describes it.
        format: one of C(FORMATS).
        against: an earlier result; what changed since then is shown.

    Raises:
        UsageError: there is no such format, or it cannot compare.
    """
    if format not in FORMATS:
        raise UsageError(f"there is no format '{format}', only {', '.join(FORMATS)}")
    if against is not None and not FORMATS[format].compares:
        able = ", ".join(name for name, one in FORMATS.items() if one.compares)
        raise UsageError(f"the format '{format}' holds one result and cannot compare; use one of {able}")
    return FORMATS[format].render(document, against)
