"""The TLS contexts of kubekeel's clients."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import ssl


def context(cafile: str | None = None, cadata: str | None = None, check_hostname: bool = True) -> ssl.SSLContext:
    """Return a context that trusts one authority.

    Raises:
        OSError: the file cannot be read, or holds no certificate (ssl.SSLError is one).
    """
    made = ssl.create_default_context(cafile=cafile, cadata=cadata)
    # The authority that MicroK8s makes has no key usage, which Python 3.13 would refuse (canonical/microk8s#4864).
    made.verify_flags &= ~ssl.VERIFY_X509_STRICT
    made.check_hostname = check_hostname
    return made
