"""The message at the end of a run, to a real server."""

import http.server
import json
import pathlib
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from kubekeel import notify
from kubekeel.result import finding

SCHEMA = json.loads((pathlib.Path(notify.__file__).parent / "result.schema.json").read_text())
SECRET = "s3cr3t-t0ken"  # noqa: S105


class Receiver(http.server.ThreadingHTTPServer):
    """Answers with the codes that it is given, the last one for ever."""

    codes: list[int]
    location = ""
    delay = 0.0

    def __init__(self) -> None:
        self.got: list[tuple[str, dict[str, str], bytes]] = []
        self.codes = [204]
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/hook/T0P-SECRET"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        content = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.got.append((self.path, dict(self.headers), content))
        time.sleep(self.server.delay)
        code = self.server.codes.pop(0) if len(self.server.codes) > 1 else self.server.codes[0]
        self.send_response(code)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "PAUSES", (0.01, 0.01))
    for name in (notify.TOKEN, notify.TOKEN_FILE, notify.PLAIN):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def document() -> dict[str, Any]:
    found = [
        finding("leader-elect-lease-duration", "setting", "critical", "fail", node="server1", title="a title", evidence="EVIDENCE"),
        finding("disk-full", "guard", "warning", "fail", node="server2", evidence="EVIDENCE"),
        finding("clocks", "guard", "warning", "unknown", node="server1"),
        finding("clocks", "guard", "warning", "unknown", node="server2"),
        finding("snapd", "guard", "info", "warn"),
        finding("ready", "cluster", "critical", "pass"),
        {**finding("waived", "guard", "critical", "fail"), "waiver": {"reason": "known", "expires": "2030-01-01"}},
    ]
    change = {"owner": "sysctl", "name": "net.ipv4.tcp_retries2", "before": "BEFORE", "after": "AFTER", "note": ""}
    file = {"path": "/etc/sysctl.d/x", "diff": "DIFF"}
    failures = [
        {"nodes": [f"server{number}"], "task": "Restart", "message": f"It failed {number}\nOUTPUT", "unreachable": False}
        for number in range(7)
    ]
    failures[1]["message"] = "x" * 1000
    made = {
        "schema": 1,
        "run": {
            "id": "20261122T120000Z-remediate-ab12",
            "command": "remediate",
            "inventory": "/home/alice/inventories/lab",
            "check": False,
            "limit": "",
            "tags": [],
            "began": "2026-11-22T12:00:00Z",
            "ended": "2026-11-22T12:03:00Z",
            "seconds": 180.0,
            "status": "failed",
            "exit_code": 4,
            "fail_on": "critical",
            "taken_back_by": "",
        },
        "tool": {"kubekeel": "0.1.0", "ansible_core": "2.19.14", "python": "3.11.7"},
        "cluster": {
            "name": "lab",
            "distribution": "k3s",
            "releases": ["v1.32.3+k3s1"],
            "profile": "balanced",
            "summary": "",
            "servers_to_spare": 1,
            "nodes": [{"name": "server1", "role": "server", "release": "", "read": True, "problem": ""}],
        },
        "findings": found,
        "plan": [],
        "changes": [{"node": "server1", "settings": [change], "files": [file], "restarts": ["k3s"]}],
        "gates": [],
        "failures": failures,
        "budget": None,
        "drill": None,
        "texts": ["TEXT"],
    }
    jsonschema.validate(made, SCHEMA)
    return made


def test_what_is_sent(receiver: Receiver, document: dict[str, Any]) -> None:
    assert notify.send(document, receiver.url) == ""
    [(path, headers, content)] = receiver.got
    assert path == "/hook/T0P-SECRET"
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers
    sent = json.loads(content)
    failures = sent.pop("failures")
    line = sent.pop("headline")
    assert sent == {
        "schema": 1,
        "event": "kubekeel.run.ended",
        "run": "20261122T120000Z-remediate-ab12",
        "command": "remediate",
        "check": False,
        "cluster": "lab",
        "status": "failed",
        "exit_code": 4,
        "began": "2026-11-22T12:00:00Z",
        "ended": "2026-11-22T12:03:00Z",
        "findings": {"info": 1, "warning": 2, "critical": 1},
    }
    assert "REMEDIATION of lab" in line
    assert len(failures) == 5
    assert failures[0] == "It failed 0"
    assert len(failures[1]) == 300
    assert failures[1].endswith("...")


def test_nothing_of_the_nodes_is_sent(document: dict[str, Any]) -> None:
    text = json.dumps(notify.body(document))
    assert [word for word in ("EVIDENCE", "BEFORE", "AFTER", "DIFF", "TEXT", "OUTPUT", "alice") if word in text] == []


@pytest.mark.parametrize("way", ["argument", "environment", "file"])
def test_a_token(way: str, receiver: Receiver, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    if way == "environment":
        monkeypatch.setenv("KUBEKEEL_NOTIFY_TOKEN", SECRET)
    if way == "file":
        (tmp_path / "token").write_text(SECRET + "\n")
        monkeypatch.setenv("KUBEKEEL_NOTIFY_TOKEN_FILE", str(tmp_path / "token"))
    assert notify.send(document, receiver.url, SECRET if way == "argument" else None) == ""
    assert receiver.got[0][1]["Authorization"] == f"Bearer {SECRET}"
    assert SECRET not in receiver.got[0][2].decode()


def test_a_token_file_that_is_missing(receiver: Receiver, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEKEEL_NOTIFY_TOKEN_FILE", "/nonexistent/token")
    assert "No such file" in notify.send(document, receiver.url)
    assert receiver.got == []


def test_tried_again_while_the_receiver_is_ill(receiver: Receiver, document: dict[str, Any]) -> None:
    receiver.codes = [503, 500, 200]
    assert notify.send(document, receiver.url) == ""
    assert len(receiver.got) == 3


def test_three_tries_are_all(receiver: Receiver, document: dict[str, Any]) -> None:
    receiver.codes = [502]
    problem = notify.send(document, receiver.url, SECRET)
    assert len(receiver.got) == 3
    assert problem == "http://127.0.0.1 answered 502 Bad Gateway"


@pytest.mark.parametrize("code", [400, 401, 404, 429])
def test_a_refusal_is_final(code: int, receiver: Receiver, document: dict[str, Any]) -> None:
    receiver.codes = [code]
    problem = notify.send(document, receiver.url, SECRET)
    assert len(receiver.got) == 1
    assert f"answered {code}" in problem
    assert SECRET not in problem
    assert "T0P-SECRET" not in problem


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_a_redirect_gets_neither_token_nor_message(code: int, receiver: Receiver, document: dict[str, Any]) -> None:
    with Receiver() as other:
        threading.Thread(target=other.serve_forever, args=(0.01,), daemon=True).start()
        receiver.codes, receiver.location = [code], other.url
        problem = notify.send(document, receiver.url, SECRET)
        other.shutdown()
        assert other.got == []
    assert len(receiver.got) == 1
    assert f"answered {code}" in problem
    assert "redirects are not followed" in problem


def test_nobody_listens(document: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    assert "Connection refused" in notify.send(document, f"http://127.0.0.1:{port}/")


def test_one_that_comes_up_meanwhile(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    receivers: list[Receiver] = []
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

    def start(_: float) -> None:
        if not receivers:
            monkeypatch.setattr(Receiver, "allow_reuse_address", True)
            server = Receiver.__new__(Receiver)
            server.got, server.codes = [], [200]
            http.server.ThreadingHTTPServer.__init__(server, ("127.0.0.1", port), Handler)
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            receivers.append(server)

    monkeypatch.setattr(time, "sleep", start)
    problem = notify.send(document, f"http://127.0.0.1:{port}/")
    monkeypatch.undo()
    [server] = receivers
    server.shutdown()
    server.server_close()
    assert problem == ""
    assert len(server.got) == 1


def test_one_that_does_not_answer_in_time(receiver: Receiver, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notify, "TIMEOUT", 0.05)
    receiver.delay = 0.5
    assert "timed out" in notify.send(document, receiver.url)


def test_one_that_speaks_no_http(document: dict[str, Any]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def babble() -> None:
            for _ in range(3):
                connection = server.accept()[0]
                connection.recv(65536)
                connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
                connection.close()

        threading.Thread(target=babble, daemon=True).start()
        problem = notify.send(document, f"http://127.0.0.1:{server.getsockname()[1]}/")
    assert problem.startswith("http://127.0.0.1 cannot be reached")


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("http://192.0.2.1/hook", "https://"),
        ("http://localhost.example.org/hook", "https://"),
        ("ftp://127.0.0.1/hook", "https://"),
        ("file:///etc/passwd", "https://"),
        ("hooks.example.org", "https://"),
        ("", "https://"),
        ("https://alice:hunter2@hooks.example.org/", "must not hold a password"),
        ("https://hooks.example.org:port/", "ort"),
        ("https://hooks.example.org/a b", "cannot be understood"),
        ("https://[::1/", "Invalid IPv6"),
        ("https://hooks.example.org:0/", "cannot be understood"),
    ],
)
def test_urls_that_are_not_taken(url: str, word: str, document: dict[str, Any]) -> None:
    problem = notify.send(document, url)
    assert word in problem
    assert "hunter2" not in problem


def test_what_is_for_this_machine_goes_by_no_proxy(receiver: Receiver, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert notify.send(document, receiver.url, SECRET) == ""
    assert receiver.got[0][0] == "/hook/T0P-SECRET"


def test_plain_text_where_it_is_allowed(document: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEKEEL_NOTIFY_PLAIN", "1")
    monkeypatch.setattr(notify, "TIMEOUT", 0.05)
    # An address that nobody has, RFC 5737.
    assert notify.send(document, "http://192.0.2.1/hook").startswith("http://192.0.2.1 cannot be reached")


def test_a_token_that_would_break_the_header(receiver: Receiver, document: dict[str, Any]) -> None:
    problem = notify.send(document, receiver.url, "a\r\nHost: elsewhere")
    assert "no token has" in problem
    assert "elsewhere" not in problem
    assert receiver.got == []
