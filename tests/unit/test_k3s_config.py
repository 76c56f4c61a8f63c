"""K3s' configuration: against tables, against PyYAML, and against the lab's own reader of the files."""

import pathlib
import runpy

import pytest
import yaml
from ansible_collections.kubekeel.ha.plugins.module_utils import config_yaml, k3s, k3s_config, k3s_keys
from ansible_collections.kubekeel.ha.plugins.module_utils.args_plan import Flags
from ansible_collections.kubekeel.ha.plugins.module_utils.k3s_config import DropIn, File, merge, plan
from ansible_collections.kubekeel.ha.plugins.module_utils.node_files import NodeError
from ansible_collections.kubekeel.ha.plugins.module_utils.unit_file import Word
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]
MAIN, FOLDER = "/etc/rancher/k3s/config.yaml", "/etc/rancher/k3s/config.yaml.d/"
OURS = FOLDER + "zz-kubekeel.yaml"


@pytest.fixture(scope="module")
def lab_arguments():
    """The reader of the lab's K3s, which was written from K3s' source and uses PyYAML."""
    return runpy.run_path(str(ROOT / "lab/node/usr/local/lib/kubekeel-lab/k3s/config_file.py"))["arguments"]


def as_plain(text):
    return [
        (one.key, [item.text for item in one.value] if isinstance(one.value, tuple) else one.value.text) for one in config_yaml.parse(text)
    ]


def file(path, text):
    return File(path, config_yaml.parse(text))


def files(*texts):
    """The main file and drop-ins 1.yaml, 2.yaml and so on."""
    return [file(FOLDER + f"{number}.yaml" if number else MAIN, text) for number, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("# nothing\n\n", []),
        ("---\na: b\n", [("a", "b")]),
        ("%YAML 1.1\n---\na: b\n...\nrubbish: [", [("a", "b")]),
        ("a: b\n---\nc: d\n", [("a", "b")]),
        ("\ufeffa: b\r\nc:\r\n- d\r\n", [("a", "b"), ("c", ["d"])]),
        ("a: b # note\nc: d#e\nf: #note\n", [("a", "b"), ("c", "d#e"), ("f", "")]),
        ('a:\n- b\n-   \'c # d\'\n  # note\n\n- "e\\"f"\n-\n', [("a", ["b", "c # d", 'e"f', ""])]),
        ("a:\n    - b\n    - c\nd: e", [("a", ["b", "c"]), ("d", "e")]),
        ("a: [b, 'c, d', \"e\", # note\n  f=[::1]]", None),
        ("a: [b, 'c, d', \"e\", # note\n  f=::1]\n", [("a", ["b", "c, d", "e", "f=::1"])]),
        ("a: []\n", [("a", [])]),
        ("tls-san: ::1\nb:\n- fd00::1\n- '[::1]:6443'\n", [("tls-san", "::1"), ("b", ["fd00::1", "[::1]:6443"])]),
        ("a: yes\nb: Off\nc: ~\nd: null\ne: 'yes'\n", [("a", "true"), ("b", "false"), ("c", ""), ("d", ""), ("e", "yes")]),
        ("a: &x\n- b\nc: *x\nd: &y e\nf: [*y, g]\n", [("a", ["b"]), ("c", ["b"]), ("d", "e"), ("f", ["e", "g"])]),
        ("a: |\n  b\n  c\nd: >-\n  e\n  f\n\n  g\nh: i\n", [("a", "b\nc"), ("d", "e f\ng"), ("h", "i")]),
        ("a:\n- |\n  b\n- c\n", [("a", ["b", "c"])]),
        ("a: b\n  c\nd:\n  e\n", [("a", "b c"), ("d", "e")]),
        ('a: "b\n  c\\\n  d"\n', [("a", "b cd")]),
        ("'a': b\n\"c+\": d\n", [("a", "b"), ("c+", "d")]),
        ("a: 1\na: 2\na+: 3\n", [("a", "1"), ("a", "2"), ("a+", "3")]),
    ],
)
def test_yaml_that_k3s_reads(text, expected):
    if expected is None:
        with pytest.raises(config_yaml.YamlError):
            config_yaml.parse(text)
    else:
        assert as_plain(text) == expected


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: b\n\tc: d", 2),
        ("a: [b\nc: d", 2),
        ("token: 'K10secret\n", 1),
        ("- a", 1),
        ("K10secret", 1),
        ("a: b\nc", 2),
        ("a: b: c", 1),
        ("a: *nope", 1),
        ("a: {b: c}", 1),
        ("a:\n- b: c", 2),
        ("a:\n  - b\n - c", 3),
        ("a: @b", 1),
        ("a:\n- - b", 2),
        ("a: 'b' c", 1),
        ("a: !!binary b", 1),
        ('a: "\\q"', 1),
        ('a: "\\UFFFFFFFF"', 1),
        ('a: "\\ud800"', 1),
        ("# c\ra: b", 1),
        ("a: b\x85c: d", 1),
        ("a: b\nc: \x00", 2),
        ("a: [?x, b]", 1),
        ("a: >\n  b\n    c\n", 3),
        ("\t# note\na: b\n", 1),
        ("a # b: c\n", 1),
        ("a: &b+ c\n", 1),
        ("a" * 1025 + ": b\n", 1),
        ("'a\n b': c\n", 2),
        ("...\na: b\n", 1),
    ],
)
def test_yaml_that_cannot_be_read_is_refused_by_line_and_its_text_is_not_told(text, line):
    with pytest.raises(config_yaml.YamlError) as refused:
        config_yaml.parse(text)
    assert refused.value.line == line
    assert "K10secret" not in str(refused.value)


def test_a_long_line_is_looked_through_at_once():
    assert as_plain("a: 'x" + " " * 100_000 + "y'\n") == [("a", "x" + " " * 100_000 + "y")]


# PyYAML writes a lone y or n without quotes, which Go's yaml.v2 takes for a boolean.
ITEM = (
    st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufeff\u2028\u2029\x85"), max_size=12)
    .map(str.strip)
    .filter(lambda text: text.lower() not in ("y", "n"))
)
VALUE = ITEM | st.lists(ITEM, max_size=4)


@settings(max_examples=300)
@given(
    entries=st.lists(st.tuples(st.sampled_from(["a", "kubelet-arg", "kubelet-arg+", "token"]), VALUE), max_size=5),
    style=st.sampled_from([None, "'", '"', ">", "|"]),
    flow=st.booleans(),
)
def test_whatever_pyyaml_writes_is_read(entries, style, flow):
    text = "".join(f"{key}: {dump(value, style, flow)}" for key, value in entries)
    expected = [(key, value if isinstance(value, list) else value.strip()) for key, value in entries]
    assert as_plain(text) == expected


def dump(value, style, flow):
    """A value as PyYAML writes it behind a key."""
    text = yaml.safe_dump(
        {"k": value}, default_style=style, default_flow_style=False if isinstance(value, str) else flow, allow_unicode=True
    )
    text = text.strip().removeprefix("{").removesuffix("}") if text.startswith("{") else text
    return text.strip().removeprefix('"k"').removeprefix("'k'").removeprefix("k").removeprefix(":").lstrip(" ") + "\n"


@given(st.lists(st.tuples(st.sampled_from(sorted(k3s_keys.SERVER_KEYS)), ITEM | st.lists(ITEM, min_size=1)), unique_by=lambda one: one[0]))
def test_what_we_write_is_read_by_pyyaml_and_by_us(entries):
    text = config_yaml.render(entries)
    assert (yaml.safe_load(text) or {}) == dict(entries)
    assert as_plain(text) == [(key, value) for key, value in entries]


SAMPLES = [
    "kubelet-arg: a=1\n",
    "kubelet-arg:\n- a=1\n- b=2\n",
    "kubelet-arg+: a=3\n",
    "kubelet-arg+: [c=1, '']\n",
    "kubelet-arg+:\n",
    "kubelet-arg:\n",
    "kubelet-arg: ''\n",
    "kubelet-arg: []\n",
    "server: https://[fd00::1]:6443\ntoken: x\n",
    "server: https://b:6443\nserver: https://c:6443\n",
    "kubelet-arg+: x=1\nkubelet-arg+: y=1\n",
    "debug: yes\nv: 2\n",
    "# nothing\n",
]


@settings(max_examples=200, deadline=None)
@given(
    main=st.none() | st.sampled_from(SAMPLES),
    drop_ins=st.dictionaries(st.sampled_from(["10-a.yaml", "20.YML", "9.yml", "note.txt", "B.yaml"]), st.sampled_from(SAMPLES)),
)
def test_files_are_merged_as_the_lab_s_k3s_does(main, drop_ins, tmp_path_factory, lab_arguments):
    path = tmp_path_factory.mktemp("k3s") / "config.yaml"
    if main is not None:
        path.write_text(main)
    folder = pathlib.Path(f"{path}.d")
    folder.mkdir()
    (folder / "folder.yaml").mkdir()
    for name, text in drop_ins.items():
        (folder / name).write_text(text)
    ours = [("-" if len(one.key) == 1 else "--") + f"{one.key}={one.value}" for one in merge(k3s.read_files(str(path))).arguments]
    assert ours == lab_arguments(path)


def test_no_file_at_all_is_an_empty_configuration(tmp_path):
    assert k3s.read_files(str(tmp_path / "config.yaml")) == []


def test_a_file_that_cannot_be_read_is_named_with_its_line(tmp_path):
    (tmp_path / "config.yaml").write_text("a: b\ntoken: [K10secret\n")
    with pytest.raises(NodeError, match=r"config\.yaml:\d: a list") as refused:
        k3s.read_files(str(tmp_path / "config.yaml"))
    assert "K10secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--cluster-init --server https://a:6443", [("cluster-init", "true"), ("server", "https://a:6443")]),
        (
            "-s https://a -t x --kubelet-arg=a=b --kubelet-arg c=d",
            [("server", "https://a"), ("token", "x"), ("kubelet-arg", "a=b"), ("kubelet-arg", "c=d")],
        ),
        ("", []),
    ],
)
def test_command_lines(words, expected):
    found = k3s.arguments([Word(word, "unit", 1) for word in words.split()])
    assert [(one.key, one.value) for one in found] == expected


def decide(texts, wanted, role="server", command=(), ours=None):
    found = files(*texts) + ([file(OURS, ours)] if ours else [])
    found.sort(key=lambda one: (one.path != MAIN, one.path))
    line = [k3s_config.Argument(key, value, "k3s.service", 7) for key, value in command]
    made = plan(role, found, line, OURS, wanted)
    return made, made.drop_in.flags


LEASE: dict[str, Flags] = {"kube-scheduler": {"leader-elect-lease-duration": "15s"}}
FREQUENCY: dict[str, Flags] = {"kubelet": {"node-status-update-frequency": "5s"}}


def test_appends_and_keeps_the_user_s_items():
    made, flags = decide(["kubelet-arg:\n- max-pods=60\n"], FREQUENCY)
    assert flags == {"kubelet": {"node-status-update-frequency": "5s"}}
    assert made.after.effective("kubelet") == {"max-pods": "60", "node-status-update-frequency": "5s"}
    assert "kubelet-arg+:\n" in made.drop_in.text()
    assert (made.reasons, made.findings) == ([], [])


@pytest.mark.parametrize(
    "item", ["node-status-update-frequency=5s", "--node_status_update_frequency=5000ms", "node-status-update-frequency=5.0s"]
)
def test_a_flag_that_has_its_value_gets_no_second_item(item):
    made, flags = decide([f"kubelet-arg: {item}\n"], FREQUENCY, ours="kubelet-arg+:\n- node-status-update-frequency=9s\n")
    assert flags == {"kubelet": {}}
    assert made.drop_in.text() is None
    assert (made.reasons, made.findings) == ([], [])


def test_another_value_in_a_user_s_file_loses_and_is_a_finding():
    made, flags = decide(["", "# x\nkubelet-arg+: node-status-update-frequency=9s\n"], FREQUENCY)
    assert flags == {"kubelet": {"node-status-update-frequency": "5s"}}
    assert made.after.effective("kubelet")["node-status-update-frequency"] == "5s"
    (finding,) = made.findings
    assert f"also set in {FOLDER}1.yaml:2" in finding
    assert made.reasons == []


def test_a_duplicate_on_the_command_line_wins_and_is_a_reason():
    made, _flags = decide([""], FREQUENCY, command=[("kubelet-arg", "node-status-update-frequency=9s")])
    (reason,) = made.reasons
    assert "k3s.service:7 comes after kubekeel's drop-in and says 9s" in reason


def test_a_later_file_that_appends_wins_and_is_a_reason():
    late = [file(FOLDER + "zzz.yaml", "kubelet-arg+: node-status-update-frequency=9s\n")]
    made = plan("server", late, [], OURS, FREQUENCY)
    assert f"{FOLDER}zzz.yaml:1 comes after" in made.reasons[0]


def test_a_later_plain_key_wipes_ours_and_is_a_reason():
    late = [file(FOLDER + "zzz.yaml", "# x\nkubelet-arg: max-pods=60\n")]
    made = plan("server", late, [], OURS, FREQUENCY)
    assert f"'kubelet-arg:' in {FOLDER}zzz.yaml:2 comes after kubekeel's drop-in and replaces it" in made.reasons[0]


def test_removing_takes_ours_away_and_says_what_it_cannot():
    gone = {"kubelet": {"node-status-update-frequency": None}}
    assert decide([""], gone, ours="kubelet-arg+:\n- node-status-update-frequency=5s\n")[0].drop_in.text() is None
    assert "is set in" in decide(["kubelet-arg: node-status-update-frequency=5s\n"], gone)[0].reasons[0]


@pytest.mark.parametrize(
    ("role", "text", "absent"),
    [
        ("agent", "", True),
        ("server", "disable-scheduler: true\n", True),
        ("server", "disable-scheduler: 'false'\n", False),
        ("server", "disable-apiserver: true\n", False),
    ],
)
def test_components_that_do_not_run_here_get_no_flags(role, text, absent):
    made, flags = decide([text], LEASE, role, ours="kube-scheduler-arg+:\n- leader-elect-lease-duration=9s\n")
    assert (made.absent == ["kube-scheduler"]) is absent
    assert ("kube-scheduler" in flags) is not absent


@pytest.mark.parametrize(
    "text",
    [
        *("kubelet-arg: a=b\n", "tls-san+: [x]\n", "debug: true\n"),
        # What would be lost with the next text.
        *("kubelet-arg+: [a=b, a=c]\n", "kubelet-arg+: [a+=b]\n"),
    ],
)
def test_what_somebody_else_wrote_into_our_drop_in_is_a_reason(text):
    made, _flags = decide([""], FREQUENCY, ours=text)
    assert made.reasons == [f"{OURS}:1 was not written by kubekeel; move it to a file of your own"]


def test_a_second_list_in_our_drop_in_is_a_reason():
    made, _flags = decide([""], FREQUENCY, ours="kubelet-arg+: [a=b]\nkubelet-arg+: [c=d]\n")
    assert made.reasons == [f"{OURS}:2 was not written by kubekeel; move it to a file of your own"]


ETCD = {"etcd": {"heartbeat-interval": "100", "election-timeout": None}}


def test_flags_of_etcd_stand_in_the_drop_in():
    made, _flags = decide([""], ETCD, ours="etcd-arg+:\n- election-timeout=1000\n")
    assert 'etcd-arg+:\n  - "heartbeat-interval=100"\n' in (made.drop_in.text() or "")
    assert "election-timeout" not in (made.drop_in.text() or "")


def test_flags_of_etcd_that_are_tuned_by_hand_are_left_alone():
    made, _flags = decide(["etcd-arg: election-timeout=3000\n"], {"etcd": {"election-timeout": None}})
    assert (made.drop_in.text(), made.reasons, made.findings) == (None, [], [])


@pytest.mark.parametrize(
    ("role", "text", "without"), [("agent", "", ()), ("server", "disable-etcd: true\n", ()), ("server", "", ("etcd",))]
)
def test_etcd_is_absent_where_it_does_not_run(role, text, without):
    files = [file(MAIN, text), file(OURS, "etcd-arg+:\n- heartbeat-interval=100\n")]
    made = plan(role, files, [], OURS, ETCD, without)
    assert made.absent == ["etcd"]
    assert made.drop_in.text() is None


def test_an_appended_flag_is_another_thing_than_a_set_one():
    made, flags = decide(["kubelet-arg: node-status-update-frequency+=5s\n"], FREQUENCY)
    assert flags == {"kubelet": {"node-status-update-frequency": "5s"}}
    assert made.findings == []


def test_other_settings_of_the_drop_in_stay():
    made, _flags = decide([""], FREQUENCY, ours='server: "https://lb:6443"\nkube-proxy-arg+:\n- proxy-mode=ipvs\n')
    text = made.drop_in.text()
    assert 'server: "https://lb:6443"\n' in text
    assert '- "proxy-mode=ipvs"\n' in text
    assert DropIn.read([file(OURS, text)], OURS).text() == text


@pytest.mark.parametrize(
    ("role", "key", "parts", "fatal"),
    [
        ("server", "kublet-arg", ["ignores it", "is 'kubelet-arg' meant?"], False),
        ("server", "tls_san", ["is 'tls-san' meant?"], False),
        ("server", "node-connection-retry", ["ignores it"], False),
        ("agent", "tls-san", ["keeps k3s-agent from starting"], True),
        ("agent", "kube-apiserver-arg+", ["keeps k3s-agent from starting"], True),
        ("agent", "kublet-arg", ["is 'kubelet-arg' meant?"], False),
    ],
)
def test_keys_that_k3s_does_not_take(role, key, parts, fatal):
    (problem,) = k3s_config.key_problems(role, [file(MAIN, f"# x\n{key}: y\n")])
    assert (problem.path, problem.line, problem.fatal) == (MAIN, 2, fatal)
    assert all(part in problem.why for part in parts)


def test_keys_that_k3s_takes_are_no_problem():
    text = "".join(f"{key}: x\n" for key in sorted(k3s_keys.SERVER_KEYS))
    assert k3s_config.key_problems("server", [file(MAIN, text)]) == []
