"""What else K3s has of its own: load-balancer state, registration, known bugs, units, etcd's answers."""

import contextlib
import json
import struct
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import (
    addresses,
    environment_file,
    etcd_messages,
    known_bugs,
    kube_api,
    lb_state,
    registration,
    unit_file,
)
from ansible_collections.kubekeel.ha.plugins.module_utils.etcd_messages import EtcdMember, Frame
from ansible_collections.kubekeel.ha.plugins.module_utils.node_change import Change, FileChange, hide_secrets
from ansible_collections.kubekeel.ha.plugins.modules import k3s_lb_state
from hypothesis import given
from hypothesis import strategies as st

A, B, C, IPV6 = "10.0.0.1:6443", "10.0.0.2:6443", "10.0.0.3:6443", "[fd00::1]:6443"
JOIN = "https://10.0.0.9:6443"


def state(*addresses, url=JOIN):
    return json.dumps({"ServerURL": url, "ServerAddresses": list(addresses), "Listener": None})


@pytest.mark.parametrize(
    ("text", "current", "alive", "verdict"),
    [
        (state(A, B), [A, B], [A, B], "fresh"),
        (state(A), [A, B], [A, B], "fresh"),
        (state(IPV6), [IPV6], [IPV6], "fresh"),
        (state(A, B), [A, B], [], "fresh"),
        (state(A, C), [A, B], [A, B, C], "partly_stale"),
        (state(A, B), [A, B], [A], "partly_stale"),
        (state(A, C), [A, B], [B, C], "partly_stale"),
        (state(C), [A, B], [A, B], "stale"),
        (state(C), [A, B], [A, B, C], "stale"),
        (state(B), [A, B], [A], "stale"),
        (state(A, C), [A, B], [B], "stale"),
        (state(C), [], [], "stale"),
        (state(), [A], [A], "fresh"),
        (state("10.0.0.9:6443"), [A], [A, "10.0.0.9:6443"], "fresh"),
        (state("[FD00:0::1]:6443"), [IPV6], [IPV6, "[FD00:0::1]:6443"], "fresh"),
        (state(A, url="https://10.0.0.8:6443"), [B], [B], "foreign"),
        (state(A, url=JOIN + "/"), [A], [A], "fresh"),
        ("", [A], [A], "unreadable"),
        ("{", [A], [A], "unreadable"),
        ("[]", [A], [A], "unreadable"),
        ('{"ServerURL": 1, "ServerAddresses": []}', [A], [A], "unreadable"),
        ('{"ServerURL": "x", "ServerAddresses": "y"}', [A], [A], "unreadable"),
        ('{"ServerURL": "x", "ServerAddresses": [1]}', [A], [A], "unreadable"),
        ('{"ServerURL": "x"}', [A], [A], "unreadable"),
        ("[" * 100_000, [A], [A], "unreadable"),
    ],
)
def test_a_file_is_stale_only_where_nothing_in_it_helps(text, current, alive, verdict):
    found = lb_state.judge(lb_state.parse(text), [JOIN], current, dict.fromkeys([A, B, C, IPV6], False) | dict.fromkeys(alive, True))
    assert found.verdict == verdict


@pytest.mark.parametrize(
    ("product", "number", "verdict", "force", "goes"),
    [
        ("k3s", 0, "stale", False, True),
        ("k3s", 0, "partly_stale", False, False),
        ("k3s", 0, "partly_stale", True, True),
        ("k3s", 0, "fresh", False, False),
        ("k3s", 0, "absent", True, False),
        ("k3s", 2, "stale", True, False),
        ("rke2", 1, "stale", False, True),
    ],
)
def test_what_may_be_cleared(product, number, verdict, force, goes):
    why = lb_state.why_not_cleared(lb_state.files(product)[number], lb_state.Verdict(verdict, ""), force)
    assert (why is None) is goes


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        (A, ("10.0.0.1", 6443)),
        (IPV6, ("fd00::1", 6443)),
        ("host", ("host", 0)),
        ("::1", ("::1", 0)),
        ("a:²", ("a:²", 0)),
    ],
)
def test_addresses(address, parts):
    assert addresses.split(address) == parts
    if parts[1]:
        assert addresses.join(*parts) == address


@pytest.mark.parametrize(
    ("bug", "release", "affected"),
    [
        ("#11349", "v1.31.3+k3s1", True),
        ("#11349", "v1.31.4+k3s1", False),
        ("#11349", "v1.31.4-rc1+k3s1", True),
        ("#11349", "v1.31.5-rc1+k3s1", False),
        ("#11349", "v1.30.7+k3s1", True),
        ("#11349", "v1.30.8+k3s1", False),
        ("#11349", "v1.29.11+k3s1", True),
        ("#11349", "v1.29.12+k3s1", False),
        ("#11349", "v1.28.99+k3s1", True),
        ("#11349", "v1.32.0+k3s1", False),
        ("#11349", "v1.32.0-rc2+k3s1", True),
        ("#11349", "v1.36.0+k3s1", False),
        ("#11333", "v1.32.2+k3s1", True),
        ("#11333", "v1.32.3+k3s1", False),
        ("#11333", "v1.31.6+k3s2", True),
        ("#11333", "v1.31.7+k3s1", False),
        ("#11333", "v1.30.10+k3s1", True),
        ("#11333", "v1.30.11+k3s1", False),
        ("#11333", "v1.29.14+k3s1", True),
        ("#11333", "v1.29.15+k3s1", False),
        ("#11311", "v1.31.2+k3s1", True),
        ("#11311", "v1.31.3+k3s1", False),
        ("#10506", "v1.30.2+k3s1", True),
        ("#10506", "v1.30.3+k3s1", False),
        ("#10506", "v1.27.15+k3s1", True),
        ("#10506", "v1.27.16+k3s1", False),
        ("#10506", "v1.31.0+k3s1", False),
        ("dqlite#364", "v1.33.9", False),
        ("dqlite#364", "v1.34.0", True),
        ("dqlite#364", "v1.36.2", True),
        ("dqlite#364", "v1.37.0", False),
    ],
)
def test_borders_of_known_bugs(bug, release, affected):
    (found,) = [one for one in known_bugs.BUGS if one.source.endswith(bug)]
    assert known_bugs.has_bug(found, release) is affected


def test_a_bug_is_told_where_it_shows():
    (text,) = known_bugs.findings("k3s", "v1.31.3+k3s1", "agent")
    assert "k3s-io/k3s#11349" in text
    assert "Mended in 1.32.0, 1.31.4, 1.30.8, 1.29.12" in text
    assert len(known_bugs.findings("k3s", "v1.31.2+k3s1", "etcd-only server")) == 2
    assert known_bugs.findings("k3s", "v1.31.3+k3s1", "server") == []
    assert known_bugs.findings("k3s", "", "agent") == []
    assert known_bugs.findings("k3s", "v1.31." + "9" * 5000, "agent") == []
    assert known_bugs.findings("microk8s", "v1.31.3", "agent") == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("lb", "https://lb:443"),
        ("lb:6443", "https://lb:6443"),
        ("https://lb.example.org", "https://lb.example.org:443"),
        ("https://[fd00::1]:6443/", "https://[fd00::1]:6443"),
        ("[fe80::1%eth0]:6443", "https://[fe80::1%eth0]:6443"),
    ],
)
def test_registration_addresses(address, expected):
    assert registration.normalize(address) == expected


@pytest.mark.parametrize(
    "address",
    [
        *("", "http://lb:6443", "https://[bad", "fd00::1", "https://lb:6443/path", "https://me:pw@lb:6443", "https://lb:port"),
        *("https://l b:6443", "https://lb,lc:6443", "https://lb\t:6443", "https://lb\0:6443", "https://lb:6443#x", "lb:0", "lb²"),
    ],
)
def test_what_is_no_registration_address(address):
    with pytest.raises(ValueError, match="is no address"):
        registration.normalize(address)


@pytest.mark.parametrize(
    ("url", "resolved", "node"),
    [
        ("https://10.0.0.1:6443", ["10.0.0.1"], "10.0.0.1"),
        ("https://[fd00::1]:6443", [], "fd00::1"),
        ("https://Server1:6443", [], "server1"),
        ("https://server1.example.org:6443", [], "server1"),
        ("https://server1.example.org:6443", ["192.0.2.9"], None),
        ("https://alias.example.org:6443", ["10.0.0.1"], "10.0.0.1"),
        ("https://both.example.org:6443", ["10.0.0.1", "10.0.0.2"], None),
        ("https://10.0.0.10:6443", ["10.0.0.10"], None),
        ("https://lb.example.org:6443", [], None),
    ],
)
def test_which_urls_name_a_single_node(url, resolved, node):
    assert registration.single_node(url, ["server1", "10.0.0.1", "10.0.0.2", "fd00::1", "10"], resolved) == node


UNIT = """[Unit]
Description=x
ExecStart=/no/service
[Service]
# a note
ExecStart=/usr/local/bin/k3s \\
    server \\
    # in between
\t'--tls-san' \\
\t'a b' --flag=${ONE} $MORE \\
"""


def test_a_unit_s_command_has_the_lines_of_its_words():
    words = unit_file.command([("k3s.service", UNIT)])
    assert [(word.text, word.line) for word in words] == [
        ("/usr/local/bin/k3s", 6),
        ("server", 7),
        ("--tls-san", 9),
        ("a b", 10),
        ("--flag=${ONE}", 10),
        ("$MORE", 10),
    ]
    assert [word.text for word in unit_file.expand(words, {"ONE": "1", "MORE": "c d"})][4:] == ["--flag=1", "c", "d"]
    assert [word.text for word in unit_file.expand([unit_file.Word("a$$b%%", "", 1)], {})] == ["a$b%"]


def test_a_drop_in_replaces_the_command():
    override = "[Service]\nExecStart=\nExecStart=/k3s agent\n"
    assert [word.text for word in unit_file.command([("a", UNIT), ("b", override)])] == ["/k3s", "agent"]


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("", {"A": "1"}, "A=1\n"),
        ("# note\nB=2\n", {"A": "1"}, "# note\nB=2\nA=1\n"),
        ("B=2", {"A": "1"}, "B=2\nA=1\n"),
        ("A=1\n", {"A": "1"}, "A=1\n"),
        ("A='1'\n", {"A": "1"}, "A='1'\n"),
        ("A=2\nB=2\n", {"A": "1"}, "A=1\nB=2\n"),
        ("A=2\nB=2\nA=3\n", {"A": "1"}, "B=2\nA=1\n"),
        ("A=1\nB=2\nA=1\n", {"A": "1"}, "B=2\nA=1\n"),
        ("A=2\\\n3\nB=2\n", {"A": "1"}, "A=1\nB=2\n"),
        ("A=2\nB=2\n", {"A": None}, "B=2\n"),
        ("#A=2\n;A=3\n", {"A": "a b"}, '#A=2\n;A=3\nA="a b"\n'),
        ("AA=2\n", {"A": None}, "AA=2\n"),
        ("export A=1\n", {"A": "1"}, "export A=1\nA=1\n"),
        ("B\\\nA=2\n", {"A": "1"}, "B\\\nA=1\n"),
        (" A=2\r\n\tB=2\r\n", {"A": "1"}, "A=1\n\tB=2\r\n"),
    ],
)
def test_variables_of_an_environment_file(text, wanted, expected):
    assert environment_file.set_variables(text, wanted) == expected
    assert environment_file.set_variables(expected, wanted) == expected


@pytest.mark.parametrize("text", ["A='one\nB=two'\n", 'A="one\n'])
def test_an_environment_file_with_values_over_several_lines_is_refused(text):
    with pytest.raises(ValueError, match="line 1: a quote is not closed"):
        environment_file.set_variables(text, {"B": "1"})


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("B=x\\", "its last line goes on"),
        ("B=x\\\n", "its last line goes on"),
        ("B='x", "a quote is open"),
        ("B=x\0", "its last line goes on"),
        ("B=\udcff\n", "not UTF-8"),
    ],
)
def test_a_line_that_would_be_no_line_of_its_own_is_not_added(text, part):
    with pytest.raises(ValueError, match=part):
        environment_file.set_variables(text, {"A": "1"})


def test_a_value_of_many_parts_is_read_at_once():
    assert environment_file.variables("A=" + "''" * 50_000 + "x\n") == {"A": "x"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A = x \t\n", "x"),
        ('A=x"y"\n', 'x"y"'),
        ("A=\"x\"  'y' z\n", "xyz"),
        ("A=x\\ \n", "x "),
        ("A=x\\\n# y\n", "x# y"),
        ('A="x\\\ny\\q\\$"\n', "xy\\q$"),
        ("A=x\rB=y", "x"),
        ("A='x", "x"),
        ("A=x\nA=\x1b\n", None),
        ("A=x\nB=\udcff\n", None),
        ("export A=x\n", None),
        ("# A=x\n;A=x\nA\n", None),
    ],
)
def test_environment_files_as_systemd_reads_them(text, expected):
    assert environment_file.variables(text).get("A") == expected


def test_other_lines_of_an_environment_file_stay_byte_for_byte():
    assert environment_file.set_variables("A=x\x0cy\r\n\n# \x85\n", {"B": "1"}) == "A=x\x0cy\r\n\n# \x85\nB=1\n"


@given(st.dictionaries(st.sampled_from(["A", "B", "C"]), st.text(st.characters(min_codepoint=32, max_codepoint=126))))
def test_an_environment_file_says_what_was_wanted(wanted):
    wanted = {name: value.strip() for name, value in wanted.items()}
    assert environment_file.variables(environment_file.set_variables("A=0\nX=1\n", wanted)) == {"A": "0", "X": "1"} | wanted


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 255), st.integers(0, 2**31 - 1), st.binary(max_size=70))), st.binary(max_size=8)
)
def test_frames_are_cut_out_of_a_stream(sent, rest):
    frames = [Frame(*one) for one in sent]
    stream = b"".join(frame.encode() for frame in frames)
    assert etcd_messages.frames(stream)[0] == frames
    found, left = etcd_messages.frames(stream + b"\xff\xff\xff" + rest)
    assert found == frames
    assert left == b"\xff\xff\xff" + rest


def field(number, value):
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value):
    out = b""
    while value > 127:
        out += bytes([value & 127 | 128])
        value >>= 7
    return out + bytes([value])


def test_members_of_etcd():
    one = field(1, 2**63) + field(2, b"server1-0a1b2c3d") + field(3, b"https://10.0.0.1:2380") + field(4, b"https://10.0.0.1:2379")
    two = field(1, 7) + field(3, b"https://10.0.0.2:2380") + field(5, 1)
    answer = field(1, field(1, 5)) + field(2, one) + field(2, two)
    assert etcd_messages.members(answer) == [
        EtcdMember("server1-0a1b2c3d", ("https://10.0.0.1:2379",), ("https://10.0.0.1:2380",), False),
        EtcdMember("", (), ("https://10.0.0.2:2380",), True),
    ]
    header = field(1, field(1, 5) + field(2, 2**63) + field(3, 77))
    assert etcd_messages.leader(header + field(3, 20480) + field(4, 2**63)) == (2**63, 2**63)
    assert etcd_messages.leader(header + field(4, 7)) == (2**63, 7)
    assert etcd_messages.leader(field(1, b"")) == (0, 0)
    assert etcd_messages.message(b"\0" + struct.pack("!I", 3) + b"abcd") == b"abc"


@given(st.binary())
def test_rubbish_is_refused_or_read_and_never_hangs(data):
    for read in (etcd_messages.members, etcd_messages.leader, etcd_messages.message):
        with contextlib.suppress(ValueError):
            read(data)


def test_a_number_without_an_end_is_refused_at_once():
    with pytest.raises(ValueError, match="cut off"):
        etcd_messages.members(b"\xff" * 4_000_000)


NOW = "2100-01-01T00:00:00Z"


@pytest.mark.parametrize(
    ("spec", "ready", "why"),
    [
        ({"renewTime": NOW}, "True", ""),
        ({"renewTime": NOW}, "False", "10.0.0.1:6443 says that it is NotReady"),
        ({"renewTime": "2026-11-21T03:00:00Z"}, "True", "its kubelet does not renew its Lease"),
        ({"renewTime": "soon"}, "True", "its kubelet does not renew its Lease"),
        ({}, "True", "its kubelet does not renew its Lease"),
        (None, "True", "its kubelet does not renew its Lease"),
        ({"leaseDurationSeconds": "x"}, "True", "10.0.0.1:6443: it.spec.leaseDurationSeconds is no int"),
    ],
)
def test_whether_a_node_is_back(monkeypatch, spec, ready, why):
    answers = {
        "/api/v1/nodes/n1": {"metadata": {"name": "n1"}, "status": {"conditions": [{"type": "Ready", "status": ready}]}},
        k3s_lb_state.LEASE + "n1": {"metadata": {"name": "n1"}, "spec": spec},
    }
    monkeypatch.setattr(kube_api, "get_json", lambda _api, _host, path, *_: answers[path])
    module = SimpleNamespace(params={"node_name": "n1"})
    node: Any = SimpleNamespace(module=module, kubelet=None, k3s=None, current=lambda _to: ["10.0.0.1:6443"])
    assert k3s_lb_state.why_not_ready(node, 0) == why


@pytest.mark.parametrize(
    "line",
    [
        "token: K10x",
        "agent-token: 'K10x'",
        "K3S_TOKEN=K10x",
        'K3S_TOKEN="K10x y"',
        "etcd-s3-secret-key: K10x",
        "  password: K10x",
        "etcd-s3-access-key=K10x",
        "--bootstrap-token K10x",
        "--bootstrap-token\nK10x",
        "--node-ip=-bootstrap-token K10x",
        "--'bootstrap-token K10x",
        "--bootstrap- token K10x",
        "token: |\n\n  a\n  K10x",
    ],
)
def test_diffs_hide_what_is_secret(line):
    shown = hide_secrets(f"a: b\n{line}\nkubelet-arg+:\n")
    assert "K10x" not in shown
    assert shown.startswith("a: b\n")
    assert shown.endswith("\nkubelet-arg+:\n")


def test_diffs_show_what_is_not():
    text = '--leader-elect-lease-duration=15s\n--service-account-key-file=x\nHTTP2_PING_TIMEOUT_SECONDS=4\n- "tokencleaner=x"\n'
    text += "# a token\na: b\n"
    assert hide_secrets(text) == text


def test_a_long_line_is_looked_through_at_once():
    text = "a-" * 100_000 + " " * 100_000 + "token:" + " " * 100_000
    assert hide_secrets(text) == text


def test_the_old_value_of_a_secret_is_hidden():
    shown = Change("k3s", "K3S_TOKEN", "K10x", None, "/etc/default/k3s").as_result()
    assert (shown["before"], shown["after"]) == ("********", None)


def test_a_last_line_that_only_gets_its_end_is_not_shown():
    shown = FileChange("/x", "PROXY=http://me:K10x@y", "PROXY=http://me:K10x@y\nA=1\n", only_changes=True).as_diff()
    assert (shown["before"], shown["after"]) == ("", "A=1\n")
