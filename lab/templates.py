"""Files of ``lab/node`` on their way into a node: as they are, or rendered where they end in ``.j2``."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

NODE_FILES = Path(__file__).parent / "node"
SUFFIX = ".j2"

_environment = Environment(
    loader=FileSystemLoader(NODE_FILES),
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
    autoescape=False,
)


def content(path: str, **values: object) -> bytes:
    """Return a file of ``lab/node`` by the path that it has in a node (no leading slash, no ``.j2``)."""
    plain = NODE_FILES / path
    if plain.is_file():
        return plain.read_bytes()
    return _environment.get_template(path + SUFFIX).render(**values).encode()
