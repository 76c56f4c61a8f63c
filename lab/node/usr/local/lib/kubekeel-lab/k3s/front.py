"""Port 6443 of a server, where K3s has supervisor and API server behind one listener: haproxy, and the rules for it."""

from pathlib import Path

from .components import API_HOST
from .kubeconfigs import combined, put
from .node import PORT, RUNTIME, SUPERVISOR_SOCKET, Node

FOLDER = RUNTIME / "front"
CONFIG = FOLDER / "haproxy.cfg"

COMMON = """\
global
    log stdout format raw daemon warning
    maxconn 4000
    nbthread 1
    ssl-server-verify required

defaults
    mode http
    log global
    timeout connect 3s
    timeout http-request 30s
    # Watches are silent for minutes, and a shell in a pod for as long as somebody thinks.
    timeout client 2h
    timeout server 2h
    timeout tunnel 24h

frontend k3s
    bind 127.0.0.1:{port},{address}:{port} ssl crt {folder}/serving.pem ca-file {tls}/client-ca.crt verify optional alpn h2,http/1.1
    # Who somebody is, only his certificate tells.
    http-request del-header X-Remote- -m beg
    http-request set-header X-Remote-User %[ssl_c_s_dn(CN)] if {{ ssl_c_used }}
    http-request set-header X-Remote-Group %[ssl_c_s_dn(O)] if {{ ssl_c_used }} {{ ssl_c_s_dn(O) -m found }}
    http-request return status 200 content-type text/plain file {tls}/server-ca.crt if {{ path /cacerts }}
    http-request return status 200 content-type text/plain string pong if {{ path /ping }}
    use_backend supervisor if {{ path_beg /v1-k3s/ /db/info }}
"""

SUPERVISOR = """
backend supervisor
    server supervisor unix@{socket}
"""

WITH_API = """\
    # An upgraded connection (exec, port-forward) cannot be one of many streams.
    use_backend api_upgrade if {{ req.hdr(Upgrade) -m found }}
    default_backend api

backend api
    server api {api}:{port} ssl ca-file {tls}/server-ca.crt verifyhost localhost crt {folder}/auth-proxy.pem alpn h2

backend api_upgrade
    server api {api}:{port} ssl ca-file {tls}/server-ca.crt verifyhost localhost crt {folder}/auth-proxy.pem alpn http/1.1
"""

WITHOUT_API = """\
    http-request return status 503 content-type text/plain string "apiserver disabled" unless {{ path_beg /v1-k3s/ /db/info }}
"""


def prepare(node: Node) -> Path:
    """Write haproxy's files and return its configuration."""
    combined(node.tls / "serving-kube-apiserver.crt", FOLDER / "serving.pem")
    if node.runs("apiserver"):
        combined(node.tls / "client-auth-proxy.crt", FOLDER / "auth-proxy.pem")
    put(CONFIG, config(node))
    return CONFIG


def config(node: Node) -> str:
    """Return haproxy's configuration for this server."""
    template = COMMON + (WITH_API if node.runs("apiserver") else WITHOUT_API) + SUPERVISOR
    return template.format(port=PORT, address=node.address, tls=node.tls, folder=FOLDER, api=API_HOST, socket=SUPERVISOR_SOCKET)


def command(node: Node) -> list[str]:
    """Write haproxy's files and return its command line."""
    return ["/usr/sbin/haproxy", "-db", "-f", str(prepare(node))]
