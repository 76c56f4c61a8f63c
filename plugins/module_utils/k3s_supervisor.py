"""Does a server of K3s answer? Its supervisor gives the cluster's authorities to anybody who asks."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import http.client
import os
import ssl
from urllib.parse import urlsplit

from ansible_collections.kubekeel.ha.plugins.module_utils import tls

TIMEOUT = 5


def why_unfit(url: str, data_dir: str, covered: bool) -> str:
    """Return why nodes cannot join at an address, an empty text where they can.

    Args:
        url: with scheme, host and port.
        data_dir: of K3s on this node, which knows the cluster's authority.
        covered: whether the certificate has to cover the host of the address, too.
    """
    parts = urlsplit(url)
    # A server with disable-agent has the latter alone.
    paths = [os.path.join(data_dir, name) for name in ("agent/server-ca.crt", "server/tls/server-ca.crt")]
    authority = next((path for path in paths if os.path.exists(path)), paths[0])
    try:
        context = tls.context(cafile=authority, check_hostname=covered)
    except OSError as error:
        return "the cluster's certificate authority (%s) cannot be read: %s" % (authority, error)
    connection = http.client.HTTPSConnection(parts.hostname or "", parts.port or 443, timeout=TIMEOUT, context=context)
    try:
        connection.request("GET", "/cacerts")
        status = connection.getresponse().status
    except ssl.SSLCertVerificationError as error:
        return "its certificate is not fit: %s; add '%s' to tls-san on every server and restart them" % (
            error.verify_message,
            parts.hostname,
        )
    except (OSError, ValueError, http.client.HTTPException) as error:
        return "it does not answer: %s" % (getattr(error, "strerror", None) or error or type(error).__name__)
    finally:
        connection.close()
    return "" if status == http.client.OK else "it does not answer as a server of K3s does: /cacerts gives HTTP %d" % status
