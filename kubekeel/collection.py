"""Where the collection kubekeel.ha is: beside this package once it is installed, or the checkout that this package lies in."""

import pathlib
import sys

_ROOT = pathlib.Path(__file__).resolve().parents[1]

CHECKOUT: pathlib.Path | None = _ROOT if (_ROOT / "galaxy.yml").is_file() else None
"""The checkout; None where kubekeel was installed."""

FOLDER = CHECKOUT or _ROOT / "ansible_collections" / "kubekeel" / "ha"
"""The collection that belongs to this package."""


def importable() -> None:
    """Let the checkout's own collection be imported. An installed one is on the path already."""
    path = str(_ROOT / ".collections")
    if CHECKOUT and path not in sys.path:
        sys.path.append(path)
