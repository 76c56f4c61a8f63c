"""The argument files: against tables, and against kubelite's own reader as the lab has it."""

import pathlib
import runpy

import pytest
from ansible_collections.kubekeel.ha.plugins.module_utils import kubelite_args
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = pathlib.Path(__file__).parents[2]


# The lab's kubelite reads its files with this; it was written from kubelite's source, not from ours.
READER = runpy.run_path(str(ROOT / "lab/node/snap/microk8s/current/kubelite_args.py"))
read_args = READER["read_args"]
ENVIRONMENT = {"SNAP_DATA": "/var/snap/microk8s/1", "SNAP": "/snap/microk8s/1"}
BOOLEANS = {"leader-elect", "profiling"}


def component_sees(text):
    """What pflag makes of the arguments that kubelite passes on: values by flag, in order, and positional words."""
    arguments = read_args(text, ENVIRONMENT)
    flags: dict[str, list[str]] = {}
    positional: list[str] = []
    while arguments:
        word = arguments.pop(0)
        if not word.startswith("-") or word == "-":
            positional.append(word)
            continue
        if word == "--":
            return flags, positional + arguments
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
        else:
            name, rest = word[1], word[2:]
            equals, value = (rest != "", rest.removeprefix("="))
        name = name.replace("_", "-")
        if not equals:
            value = "true" if name in BOOLEANS else arguments.pop(0)
        flags.setdefault(name, []).append(value)
    return flags, positional


@pytest.mark.parametrize(
    ("text", "wanted", "expected"),
    [
        ("--a=1\n", {"a": "2"}, "--a=2\n"),
        ("--a=1\n", {"a": "1"}, "--a=1\n"),
        ("--a 1\n", {"a": "1"}, "--a 1\n"),
        ("--a 1\n", {"a": "2"}, "--a=2\n"),
        ("--a\n1\n--b=1\n", {"a": "2"}, "--a=2\n--b=1\n"),
        ("--a\n# between\n1\n", {"a": "2"}, "--a=2\n# between\n"),
        ('--a="1"\n', {"a": "1"}, '--a="1"\n'),
        ('"--a=1" --b=2\n', {"a": "3"}, "--a=3 --b=2\n"),
        ("--b=2 --a=1 --c=3\n", {"a": None}, "--b=2 --c=3\n"),
        ("--a=1\n--a=2\n", {"a": "2"}, "--a=2\n"),
        ("--a=2\n--b=1\n--a=1\n", {"a": "2"}, "--b=1\n--a=2\n"),
        ("--a=1\r\n--b=2\r\n", {"c": "3"}, "--a=1\r\n--b=2\r\n--c=3\r\n"),
        ("--a=1\r\n--b=2\r\n", {"a": None}, "--b=2\r\n"),
        ("--a=1", {"b": "2"}, "--a=1\n--b=2\n"),
        ("# --a=1\n--b=2\n", {"a": "3"}, "# --a=1\n--b=2\n--a=3\n"),
        ("  --a=1  \n", {"a": "2"}, "  --a=2  \n"),
        ("--a\n", {"a": "true"}, "--a\n"),
        ("--a\n", {"a": "false"}, "--a=false\n"),
        ("--a false\n", {"a": "false"}, "--a=false\n"),
        ("--a=1m0s\n", {"a": "60s"}, "--a=1m0s\n"),
        ("--a_b=1\n", {"a-b": "2"}, "--a-b=2\n"),
        ("--a=1\n", {"a-b": "2"}, "--a=1\n--a-b=2\n"),
        ("--a-b=1\n", {"a": "2"}, "--a-b=1\n--a=2\n"),
        ("-v=2\n", {"v": "4"}, "--v=4\n"),
        ("-v4\n", {"v": "4"}, "-v4\n"),
        ("--oom-score-adj -999\n", {"oom-score-adj": "-500"}, "--oom-score-adj=-500\n"),
        ("--dir=${SNAP_DATA}/x\n", {"dir": "${SNAP_DATA}/x"}, "--dir=${SNAP_DATA}/x\n"),
        ("", {"a": "1"}, "--a=1\n"),
        ("\udcff--a=1\n--b=1\n", {"b": "2"}, "\udcff--a=1\n--b=2\n"),
    ],
)
def test_merge(text, wanted, expected):
    assert kubelite_args.merge(text, wanted) == expected


@pytest.mark.parametrize("value", ["a b", "a\tb", 'a"b', "a'b", "a#b", "a\nb", "$HOME", "${HOME}", "$", "$(id)", "a$SNAPX", "\x00", "\x85"])
def test_refuses_values_that_the_grammar_cannot_carry(value):
    with pytest.raises(ValueError, match="--a"):
        kubelite_args.merge("", {"a": value})


@pytest.mark.parametrize("value", ["${SNAP_DATA}/x", "$SNAP/x", "a=b,c=d", "-1", "", "äöü"])
def test_carries(value):
    flags, positional = component_sees(kubelite_args.merge("", {"a": value}))
    expanded = value.replace("${SNAP_DATA}", ENVIRONMENT["SNAP_DATA"]).replace("$SNAP", ENVIRONMENT["SNAP"])
    assert (flags, positional) == ({"a": [expanded]}, [])


@pytest.mark.parametrize("name", ["--a", "a=b", "", "A", "a b", "-a", "a_b", "a-"])
def test_refuses_names(name):
    with pytest.raises(ValueError, match="not the name of a flag"):
        kubelite_args.merge("", {name: "1"})


@pytest.mark.parametrize(
    ("component", "text", "line"),
    [
        ("kube-controller-manager", "--a=20s # shorter\n", 1),
        ("kube-controller-manager", "--b=1\n--a=1 stray\n", 2),
        ("kube-apiserver", '--a="x y"\n', 1),
        ("kube-apiserver", "--a = 1\n", 1),
        ("kube-apiserver", "--a # 1\n", 1),
        ("kube-scheduler", "--leader-elect true\n", 1),
        ("kube-proxy", "--a\t1\n", 1),
        ("kube-proxy", "-- --a=1\n", 1),
        ("kubelet", "--b=1\n--c=2  --d=3\n", 2),
        ("kubelet", "--leader-elect  --b=1\n", 1),
    ],
)
def test_finds_lines_with_which_a_component_will_not_start(component, text, line):
    found = kubelite_args.problems(kubelite_args.parse(text), component)
    assert [problem.line for problem in found] == [line]


@pytest.mark.parametrize(
    "text", ["--a=1\n", "--a 1\n", "# x # y\n--a\n1\n", "--a\n--b=1\n", "--c=2  --d=3\n", "--leader-elect  --b=2\n", "--m -1\n", "-v 2\n"]
)
def test_finds_no_fault_with_lines_that_work(text):
    assert kubelite_args.problems(kubelite_args.parse(text), "kube-apiserver") == []


# -- For any file ------------------------------------------------------------------------------------------------------

NAMES = ["node-monitor-period", "feature-gates", "v", "cluster-cidr", "a", "a-b"]
VALUES = st.sampled_from(["1s", "20s", "A=true,B=false", "/x/y", "-5", "${SNAP_DATA}/z", "$SNAP", "x#y", "0", "value"])
QUOTING = st.sampled_from(["", '"', "'", "''"])


@st.composite
def flags(draw):
    """One flag in one of the forms that kubelite understands, as pieces of which each is one argument."""
    if draw(st.booleans()) and draw(st.booleans()):
        name = draw(st.sampled_from(sorted(BOOLEANS)))
        return ["--" + name + draw(st.sampled_from(["", "=true", "=false"]))]
    name, value, quote = draw(st.sampled_from(NAMES)), draw(VALUES), draw(QUOTING)
    if name == "v" and draw(st.booleans()):
        return [draw(st.sampled_from(["-v=%s", "-v%s"])) % "3"]
    shown = name.replace("-", draw(st.sampled_from("-_")))
    if draw(st.booleans()):
        return [f"--{shown}={quote}{value}{quote}"]
    return [f"{quote}--{shown}{quote}", f"{quote}{value}{quote}"]


@st.composite
def files(draw):
    """A file with which its component starts."""
    ending = draw(st.sampled_from(["\n", "\r\n"]))
    text = draw(st.sampled_from(["", "# head" + ending, ending]))
    words = [word for flag in draw(st.lists(flags(), max_size=8)) for word in flag]
    for position, word in enumerate(words):
        last = position == len(words) - 1
        separator = draw(st.sampled_from([" ", ending, ending + "  ", "  " + ending, ending + "# --a=9 note" + ending, ending * 2]))
        starts_line = not text or text.endswith(("\n", "\n  "))
        if word.startswith("#") and starts_line:
            word = "'" + word
        text += word + ("" if last and draw(st.booleans()) else ending if last else separator)
    return text


WANTED = st.dictionaries(
    st.sampled_from([*NAMES, *sorted(BOOLEANS), "new-flag"]),
    st.one_of(st.none(), st.sampled_from(["7s", "true", "w", "${SNAP}/w"])),
    max_size=4,
).map(lambda wanted: {name: "false" if name in BOOLEANS and value else value for name, value in wanted.items()})


@settings(max_examples=1500, deadline=None)
@given(files(), WANTED)
def test_kubelite_sees_the_wanted_flags_and_all_others_unchanged(text, wanted):
    before, stray_before = component_sees(text)
    merged = kubelite_args.merge(text, wanted)
    after, stray_after = component_sees(merged)
    assert stray_before == stray_after == []
    for name, value in wanted.items():
        expanded = None if value is None else [value.replace("${SNAP}", ENVIRONMENT["SNAP"])]
        assert after.pop(name, None) == expanded
        before.pop(name, None)
    assert after == before
    assert kubelite_args.merge(merged, wanted) == merged


@settings(max_examples=800, deadline=None)
@given(files())
def test_what_is_reported_as_effective_is_what_the_component_sees(text):
    seen, _dummy = component_sees(text)
    ours = kubelite_args.parse(text).effective()
    expanded = {
        name: value.replace("${SNAP_DATA}", ENVIRONMENT["SNAP_DATA"]).replace("$SNAP", ENVIRONMENT["SNAP"]) for name, value in ours.items()
    }
    assert expanded == {name: values[-1] for name, values in seen.items()}
    assert kubelite_args.problems(kubelite_args.parse(text), "kubelet") == []


@settings(max_examples=800, deadline=None)
@given(st.text(alphabet="-=ab \"'#$\n\r\t\x0b\x1f\u00a0", max_size=60), WANTED)
def test_any_text_at_all_is_survived_and_settled_at_once(text, wanted):
    merged = kubelite_args.merge(text, wanted)
    assert kubelite_args.merge(merged, wanted) == merged
    comments = [line.rstrip("\r") for line in text.split("\n") if line.strip(kubelite_args.GO_SPACE).startswith("#")]
    remaining = (line.rstrip("\r") for line in merged.split("\n"))
    assert all(comment in remaining for comment in comments)


@settings(max_examples=800, deadline=None)
@given(st.text(alphabet="-=ab \"'#\n\r\t\x0b\x1f\u00a0\u2003\x85", max_size=60))
def test_splits_like_kubelite(text):
    ours = [argument.text for number, line in enumerate(text.split("\n")) for argument in kubelite_args._arguments(number, line)]
    assert ours == read_args(text, {})
