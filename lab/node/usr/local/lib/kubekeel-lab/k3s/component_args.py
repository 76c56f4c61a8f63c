"""How K3s joins its own defaults for a component with the user's ``*-arg`` items."""

from collections.abc import Iterable, Mapping


def join(defaults: Mapping[str, str], items: Iterable[str]) -> list[str]:
    """Return a component's command line, sorted by name.

    An item is ``name=value``; without a value it means ``true``. It replaces the default of that name, ``name+=`` keeps
    the default before it and ``name-=`` behind it. Items of one name are all passed on, in their order.
    """
    values = {name: [value] for name, value in defaults.items()}
    untouched = set(values)
    for item in items:
        spelled, given, value = item.removeprefix("--").partition("=")
        name = spelled.rstrip("+-")
        before = values.get(name, [])
        if name in untouched and not spelled.endswith(("+", "-")):
            before = []
        untouched.discard(name)
        value = value if given else "true"
        values[name] = [value, *before] if spelled.endswith("-") else [*before, value]
    return [f"--{name}={value}" for name in sorted(values) for value in values[name]]
