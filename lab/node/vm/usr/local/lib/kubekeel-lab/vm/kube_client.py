"""The Kubernetes API as a component of a node asks it: by a kubeconfig, one connection for each question."""

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import yaml

TIMEOUT_SECONDS = 10.0
Json = dict[str, Any]


class ApiError(Exception):
    """There was no answer, or not the one that was hoped for; ``status`` is 0 without one."""

    def __init__(self, message: str, status: int = 0) -> None:
        """Take what happened, and the status of the answer."""
        super().__init__(message)
        self.status = status


class Client:
    """Who asks and whom, out of a kubeconfig with everything inside."""

    def __init__(self, kubeconfig: Path) -> None:
        """Read the kubeconfig.

        Raises:
            OSError: it cannot be read
        """
        document = yaml.safe_load(kubeconfig.read_text())
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        server = urlsplit(cluster["server"])
        self._host, self._port = server.hostname, server.port
        self._context = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        # Python takes certificates of its own from files only.
        with tempfile.NamedTemporaryFile() as pair:
            pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
            pair.flush()
            self._context.load_cert_chain(pair.name)

    def request(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        """Return the answer to a request; ``kind`` is the type of its body.

        Raises:
            ApiError: no answer, or a refusal
        """
        connection = http.client.HTTPSConnection(self._host or "", self._port, timeout=TIMEOUT_SECONDS, context=self._context)
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind, "Connection": "close"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{method} {path}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()
        if answer.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(f"{method} {path} answered {answer.status}: {text[:200].decode(errors='replace')}", answer.status)
        result: Json = json.loads(text)
        return result
