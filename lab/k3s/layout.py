"""Names, places and ports of K3s."""

API_PORT = 6443
ETCD_CLIENT_PORT = 2379
POD_NETWORK = "10.42.0.0/16"
API_SERVICE_ADDRESS = "10.43.0.1"
WEB_ADDRESS = "10.43.0.80"

SERVER_UNIT = "k3s.service"
AGENT_UNIT = "k3s-agent.service"
REGISTRATION_UNIT = "kubekeel-lab-registration.service"

UNITS = "etc/systemd/system"
CONFIG = "etc/rancher/k3s/config.yaml"
DATA = "var/lib/rancher/k3s"
TLS = f"{DATA}/server/tls"
AGENT = f"{DATA}/agent"
PROGRAM = "usr/local/bin/k3s"
STAND_IN = "usr/local/lib/kubekeel-lab/k3s"

PRIVATE_FOLDER = 0o700
