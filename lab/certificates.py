"""What the certificates of every distribution have in common."""

from collections.abc import Iterator

from .archive import Entry, File
from .pki import Pair

# Under these names every API server is asked, whatever its addresses are.
API_NAMES = (
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
    "localhost",
    "127.0.0.1",
)


def pair_files(path: str, pair: Pair, certificate_mode: int, key_mode: int) -> Iterator[Entry]:
    """Yield certificate and key as ``<path>.crt`` and ``<path>.key``."""
    yield File(f"{path}.crt", pair.certificate, certificate_mode)
    yield File(f"{path}.key", pair.key, key_mode)
