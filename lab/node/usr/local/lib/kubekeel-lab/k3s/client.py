"""HTTPS requests to API servers, supervisors and etcd."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any


class RequestError(Exception):
    """No answer (then the status is 0), or not the hoped-for one."""

    def __init__(self, text: str, status: int = 0) -> None:
        """Take a text for the log, and the answer's status."""
        super().__init__(text)
        self.status = status


class Client:
    """One identity; every request has a connection of its own."""

    def __init__(self, authority: Path, pair: Path | None = None, timeout: float = 3.0) -> None:
        """Trust ``authority``; ``pair`` is the path of certificate and key without ``.crt`` and ``.key``."""
        self._context = ssl.create_default_context(cafile=str(authority))
        self._timeout = timeout
        if pair is not None:
            self._context.load_cert_chain(f"{pair}.crt", f"{pair}.key")

    def request(self, address: str, path: str, *, method: str = "GET", body: object = None, kind: str = "application/json") -> bytes:
        """Return the body of an answer with status 200 from ``host:port``.

        Raises:
            RequestError: there is none
        """
        connection = http.client.HTTPSConnection(address, timeout=self._timeout, context=self._context)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": kind, "Connection": "close"})
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise RequestError(f"https://{address}{path}: {error or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK:
            text = " ".join(data[:200].decode(errors="replace").split())
            raise RequestError(f"https://{address}{path}: {answer.status} {answer.reason}: {text}", answer.status)
        return data

    def json(self, address: str, path: str, *, method: str = "GET", body: object = None, kind: str = "application/json") -> Any:
        """Return an answer's body as data.

        Raises:
            RequestError: there is none, or it is no JSON
        """
        data = self.request(address, path, method=method, body=body, kind=kind)
        try:
            return json.loads(data)
        except ValueError as error:
            raise RequestError(f"https://{address}{path}: no JSON") from error
