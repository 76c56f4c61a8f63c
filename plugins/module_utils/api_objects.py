"""Objects as the API of Kubernetes gives them: of the types that are read here, or refused. Pure."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

from typing import Any

# A type, a list with the shape of its items, or a dictionary with those of the fields that are read, C(*) for each that there is.
# To the API a field that is missing and one that is null are the same, but one with an exclamation mark has to be there.
Shape = Any

_METADATA = {"name!": str, "namespace": str, "labels": {"*": str}, "annotations": {"*": str}}
NODE = {
    "metadata!": _METADATA,
    "spec": {},
    "status": {
        "addresses": [{"type!": str, "address!": str}],
        "conditions": [{"type!": str, "status": str}],
        "nodeInfo": {"kubeletVersion": str},
    },
}
LEASE = {"metadata!": _METADATA, "spec": {"holderIdentity": str, "renewTime": str, "leaseDurationSeconds": int}}

NODES = {"items!": [NODE]}
LEASES = {"items!": [LEASE]}
DAEMON_SETS = {"items!": [{"metadata!": _METADATA}]}
PLANS = {"items!": [{"metadata!": _METADATA, "status": {"applying": [str]}}]}
NAMESPACE = {"metadata!": {"uid!": str}}
ENDPOINTS = {"subsets": [{"addresses": [{"ip!": str}], "ports": [{"port!": int}]}]}


def fitting(value: Any, shape: Shape, where: str = "it") -> Any:
    """Return a decoded object with every list and dictionary of a shape, empty ones where they are missing, and without nulls.

    Raises:
        ValueError: a field is missing, or of another type; the sentence names it.
    """
    if isinstance(shape, type):
        if not isinstance(value, shape):
            raise ValueError("%s is no %s" % (where, shape.__name__))
        return value
    if isinstance(shape, list):
        if not isinstance(value, list):
            raise ValueError("%s is no list" % where)
        return [fitting(one, shape[0], "%s[%d]" % (where, number)) for number, one in enumerate(value)]
    if not isinstance(value, dict):
        raise ValueError("%s is no object" % where)
    found = {name: one for name, one in value.items() if one is not None}
    for name, inner in shape.items():
        for field in list(found) if name == "*" else [name.rstrip("!")]:
            if field in found or name.endswith("!"):
                found[field] = fitting(found.get(field), inner, "%s.%s" % (where, field))
            elif not isinstance(inner, type):
                found[field] = fitting(type(inner)(), inner)
    return found
