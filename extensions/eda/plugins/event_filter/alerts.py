# Copyright (c) the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Makes single alerts out of the body of Alertmanager's webhook, in a form that nothing can be smuggled in."""

import base64
import hashlib
import json
from typing import Any

DOCUMENTATION = r"""
---
short_description: Single alerts of Alertmanager, safe to give to a playbook
description:
  - Makes an event of each alert in the body of Alertmanager's webhook (version 4), and nothing of any other body.
  - The variables of a playbook are templates, so a text in an alert would be code on the controller. The body of an event is therefore
    the alert's JSON in Base64, and nothing of the alert stands beside it. In particular no C(meta), whose hosts would limit a playbook.
  - C(alert.key) is the same for alerts of the same name, node, cluster and status.
options: {}
"""

EXAMPLES = r"""
- eda.builtin.webhook:
    host: 127.0.0.1
    port: 5050
    token: "{{ TOKEN }}"
  filters:
    - kubekeel.ha.alerts:
"""

KEPT = ("status", "labels", "fingerprint", "startsAt", "endsAt")
"""What is handed on of an alert. Annotations are for people."""
SAME = ("alertname", "node", "cluster")
"""Labels by which alerts are the same."""


def main(event: dict[str, Any]) -> list[dict[str, Any]]:
    """Return an event for each alert of a webhook's event."""
    payload = event.get("payload")
    alerts = payload.get("alerts") if isinstance(payload, dict) else None
    return [_event(alert) for alert in alerts if isinstance(alert, dict)] if isinstance(alerts, list) else []


def _event(alert: dict[str, Any]) -> dict[str, Any]:
    body = json.dumps({name: alert[name] for name in KEPT if name in alert})
    labels = alert.get("labels")
    same = [labels.get(name) for name in SAME] if isinstance(labels, dict) else []
    key = hashlib.sha256(json.dumps([*same, alert.get("status")], sort_keys=True).encode()).hexdigest()
    return {"alert": {"key": key, "body": base64.b64encode(body.encode()).decode()}}
