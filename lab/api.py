"""A small client of the Kubernetes API for the host; standard library only, so no kubectl is needed here."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class ApiError(Exception):
    """The API server did not answer, or not as hoped."""


def trust(authority: Path) -> ssl.SSLContext:
    """Return a TLS context that trusts the lab's authority alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(authority)
    return context


class Api:
    """One API server, asked over a new connection each time."""

    def __init__(self, host: str, port: int, context: ssl.SSLContext, timeout: float = 5.0) -> None:
        """Take an address and a context; the context may hold a client certificate."""
        self.host, self.port, self.context, self.timeout = host, port, context, timeout

    def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
        """Return status and body of an answer.

        Raises:
            ApiError: there is no answer
        """
        connection = http.client.HTTPSConnection(self.host, self.port, timeout=self.timeout, context=self.context)
        try:
            headers = {"Content-Type": "application/json", "Connection": "close"}
            connection.request(method, path, json.dumps(body) if body else None, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(f"{self.host}:{self.port}: {type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def get(self, path: str) -> Json:
        """Return an object or a list.

        Raises:
            ApiError: no answer, or another status than 200
        """
        status, body = self.request("GET", path)
        if status != http.HTTPStatus.OK:
            raise ApiError(f"{self.host}: GET {path} answered {status}: {body[:200].decode(errors='replace')}")
        answer: Json = json.loads(body)
        return answer

    def ensure(self, path: str, body: Json) -> None:
        """Create an object unless it is there.

        Raises:
            ApiError: no answer, or it was refused
        """
        status, answer = self.request("POST", path, body)
        if status not in (http.HTTPStatus.CREATED, http.HTTPStatus.CONFLICT):
            raise ApiError(f"{self.host}: POST {path} answered {status}: {answer[:200].decode(errors='replace')}")

    def ready(self) -> bool:
        """Tell whether the server says that it is ready."""
        try:
            return self.request("GET", "/readyz")[0] == http.HTTPStatus.OK
        except ApiError:
            return False
