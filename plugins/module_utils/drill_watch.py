"""Watches of the Kubernetes API that go on while its servers come and go."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import itertools
import threading
from typing import Any, Callable, Mapping, Sequence

from ansible_collections.kubekeel.ha.plugins.module_utils import kube_api
from ansible_collections.kubekeel.ha.plugins.module_utils.kube_api import ApiError, Credentials

SILENCE = 5.0
"""Seconds of a quiet watch after which the objects are listed anew: its server may be dead."""
REQUEST_TIMEOUT = 1.5
RETRY = 0.2

Handler = Callable[[Mapping[str, Any]], None]


class Watch(threading.Thread):
    """Calls a handler with each object of a collection, as it is and each time it changes."""

    def __init__(self, api: Credentials, hosts: Sequence[str], path: str, handler: Handler, over: threading.Event) -> None:
        """Prepare.

        Args:
            api: who asks.
            hosts: API servers, the one to ask first at the beginning.
            path: of the collection.
            handler: is called in this thread. For what was deleted it is not called.
            over: ends the watch when it is set, with the next event or time-out.
        """
        super().__init__(daemon=True)
        self._api, self._hosts, self._path, self._handler, self._over = api, hosts, path, handler, over

    def run(self) -> None:
        """Watch; where a server does not answer ask the next one."""
        for host in itertools.cycle(self._hosts):
            try:
                # For as long as this server answers.
                while not self._over.is_set():
                    self._list_and_watch(host)
            except ApiError:
                self._over.wait(RETRY)
            if self._over.is_set():
                return

    def _list_and_watch(self, host: str) -> None:
        # Out of the server's own memory: the datastore may have no leader just now.
        found = kube_api.get_json(self._api, host, self._path + "?resourceVersion=0", REQUEST_TIMEOUT)
        for item in found["items"]:
            self._handler(item)
        version = found["metadata"]["resourceVersion"]
        try:
            for event in kube_api.watch(self._api, host, "%s?watch=1&resourceVersion=%s" % (self._path, version), SILENCE):
                if self._over.is_set() or event["type"] == "ERROR":
                    return
                if event["type"] != "DELETED":
                    self._handler(event["object"])
        except ApiError:
            # A list tells at once whether the server is there.
            return
