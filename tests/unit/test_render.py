"""Results as text, JSON, JUnit, Markdown, HTML and metrics: what has to be said, and that nothing in them does anything."""

import copy
import io
import json
import re
import xml.etree.ElementTree as ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from kubekeel import render
from kubekeel.errors import UsageError
from kubekeel.render import compare, findings, headline, markdown, pictures, text, words

from . import result_samples as samples

DOCUMENTS = {name: make() for name, make in samples.SAMPLES.items()}
HOSTILE = {
    "html": "<script>document.title='owned'</script><img src=x onerror=alert(1)>\"'&amp;",
    "markup": "[red]not red[/red] [/] [link=http://evil.example]here[/link]",
    "lines": "first\r\nsecond\n\n| third |\n```\n# fourth",
    "controls": "a\x00b\x07c\x1b[31md\x1b]0;title\x07e\x9bf\u202eg\ufffeh\ud800i\x7fj",
    "long": "x" * 20_000,
    "template": '{{ 7 * 7 }} {% raw %} \\ " %s',
}


def hostile(document, words):
    """Return the document with these words in every text that comes from a node."""
    made = copy.deepcopy(document)
    for finding in made["findings"]:
        for name in ("id", "title", "evidence", "why", "remedy", "source"):
            finding[name] += words
        if finding["waiver"]:
            finding["waiver"]["reason"] += words
    for change in made["plan"] + made["changes"]:
        change["restarts"] = [unit + words for unit in change["restarts"]]
        for setting in change["settings"]:
            for name in ("owner", "name", "before", "after", "note"):
                setting[name] += words
        for file in change["files"]:
            file["path"] += words
            file["diff"] += f"+{words}\n"
    for failure in made["failures"]:
        failure["task"] += words
        failure["message"] += words
    for gate in made["gates"]:
        gate["gate"] += words
        gate["waited_for"] = [*gate["waited_for"], words]
    for node in made["cluster"]["nodes"]:
        node["release"] += words
        node["problem"] = node["problem"] and node["problem"] + words
    made["cluster"]["name"] += words
    made["cluster"]["summary"] += words
    made["texts"] += [words]
    if made["drill"]:
        for check in made["drill"]["checks"]:
            check["text"] += words
        made["drill"]["cluster"] += words
    return samples.checked(made)


def written(console):
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def flat(said):
    return " ".join(said.split())


# ---------------------------------------------------------------- all of them


@pytest.mark.parametrize("form", render.FORMATS)
@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_format_names_the_cluster_and_keeps_the_document_as_it_is(name, form):
    document = copy.deepcopy(DOCUMENTS[name])
    assert "lab" in render.render(document, form)
    assert document == DOCUMENTS[name]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("form", render.FORMATS)
def test_no_text_of_a_node_harms_a_report(form, words):
    for name in ("audit", "plan", "broken remediate", "drill"):
        document = hostile(DOCUMENTS[name], HOSTILE[words])
        against = hostile(DOCUMENTS["audit"], HOSTILE[words]) if render.FORMATS[form].compares else None
        said = render.render(document, form, against)
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff\ufffe]", said)
        said.encode()


def test_there_is_no_other_format():
    with pytest.raises(UsageError, match="no format 'pdf', only text, json, junit, markdown, html, prometheus"):
        render.render(DOCUMENTS["audit"], "pdf")


@pytest.mark.parametrize("form", ["junit", "prometheus"])
def test_who_holds_one_result_refuses_to_compare(form):
    with pytest.raises(UsageError, match="cannot compare; use one of text, json, markdown, html"):
        render.render(DOCUMENTS["plan"], form, DOCUMENTS["audit"])


# ---------------------------------------------------------------- words


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0.0 s"), (9.44, "9.4 s"), (9.96, "10 s"), (42.4, "42 s"), (179.4, "179 s"), (185, "3 min 05 s"), (3599.4, "59 min 59 s"),
        (7860, "2 h 11 min"), (8884.0, "2 h 28 min"), (179.6, "3 min 00 s"), (3599.8, "1 h 00 min"),
    ],
)  # fmt: skip
def test_durations_are_read_at_a_glance(seconds, said):
    assert words.span(seconds) == said


@given(st.text())
def test_what_is_clean_can_stand_in_xml_and_is_not_cleaned_twice(value):
    clean = words.clean(value)
    element = ElementTree.Element("a")
    element.text = clean
    assert ElementTree.fromstring(ElementTree.tostring(element, encoding="unicode")).text in (clean, clean or None)  # noqa: S314
    assert words.clean(clean) == clean


def test_colours_of_a_terminal_leave_nothing_behind():
    assert words.clean({"a\x1b[1m": ["\x1b[31mred\x1b[0m\x1b]0;title\x07 end", 1, None]}) == {"a": ["red end", 1, None]}


def test_only_the_head_of_a_diff_names_files():
    assert [kind for kind, _line in words.diff_lines(samples.DIFF)] == [
        "file", "file", "place", "same", "same", "removed", "added", "same", "same", "added",
    ]  # fmt: skip
    cut = words.diff_lines("+line\n" * 20, 5)
    assert (len(cut), cut[-1]) == (6, ("place", "… 15 more lines"))


# ---------------------------------------------------------------- what counts, and the headline


@pytest.mark.parametrize(
    ("status", "waived", "weight"),
    [
        ("fail", False, "critical"),
        ("unknown", False, "critical"),
        ("warn", False, "info"),
        ("pass", False, ""),
        ("skip", False, ""),
        ("fail", True, ""),
    ],
)
def test_what_counts(status, waived, weight):
    waiver = {"reason": "known", "expires": "2027-01-01"} if waived else None
    assert findings.weight(samples.finding("a", "cluster", "critical", status, waiver=waiver)) == weight


def test_findings_of_several_nodes_are_one_issue_with_what_each_of_them_showed():
    found = [
        samples.finding("a", "setting", "warning", "fail", node, title="A", evidence=evidence)
        for node, evidence in (("n1", "is 1"), ("n2", "is 2"), ("n3", "is 1"))
    ]
    (issue,) = findings.issues(found)
    assert issue.nodes == ("n1", "n3", "n2")
    assert issue.seen == (("is 1", ("n1", "n3")), ("is 2", ("n2",)))


def test_the_worst_comes_first():
    order = [(issue.weight, issue.state) for issue in findings.issues(DOCUMENTS["audit"]["findings"])]
    assert order[:3] == [("critical", "fail"), ("critical", "fail"), ("critical", "unknown")]
    assert order[-3:] == [("", "waived"), ("", "pass"), ("", "skip")]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("audit", "AUDIT of lab: could not be completed, 1 of 3 nodes could not be read, 3 critical, 6 warnings, 1 to be known on 3 nodes"),
        ("simple audit", "AUDIT of lab: 5 warnings on 3 nodes"),
        ("plan", "PLAN for lab: 5 settings to change on 3 nodes, 3 restarts"),
        ("remediate", "REMEDIATION of lab: 5 settings changed on 3 nodes, 3 restarts"),
        ("broken remediate", "REMEDIATION of lab: FAILED, 5 settings changed on 1 node, 1 restart"),
        ("refused", "REMEDIATION of lab: REFUSED, nothing was changed, 1 critical on 1 node"),
        ("verify", "VERIFICATION of lab: all is as it should be"),
        ("drill", "DRILL of lab: PASSED, leader loss of server1"),
        ("failed drill", "DRILL of lab: FAILED, leader loss of server1"),
        ("long drill", "DRILL of lab: PASSED, apiserver alternation of server1, server2, server3"),
        ("nothing", "ROLLBACK of lab: could not be completed"),
    ],
)
def test_headlines(name, said):
    assert headline.headline(DOCUMENTS[name]) == said
    assert render.render(DOCUMENTS[name], "text").splitlines()[0] == said


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("audit", ["kubekeel doctor", "kubekeel audit"]),
        ("simple audit", ["kubekeel plan"]),
        ("plan", ["kubekeel remediate"]),
        ("remediate", ["kubekeel verify", "kubekeel rollback --run 20261122T122916Z"]),
        ("broken remediate", ["kubekeel audit", "kubekeel rollback --run 20261122T122916Z"]),
        ("refused", ["", "kubekeel remediate"]),
        ("verify", ["kubekeel drill"]),
        ("drill", [""]),
        ("failed drill", ["kubekeel audit"]),
    ],
)
def test_what_to_do_next(name, said):
    document = DOCUMENTS[name]
    assert [command for command, _what in headline.next_steps(document)] == said
    last = render.render(document, "text").splitlines()[-1]
    assert last.startswith("Next: ")
    assert all(command in last for command in said)


def test_who_was_left_out_by_a_limit_is_no_failure():
    document = copy.deepcopy(DOCUMENTS["simple audit"])
    document["cluster"]["nodes"][2] |= {"read": False, "problem": "left out by --limit"}
    assert "could not be read" not in render.render(document, "text")


# ---------------------------------------------------------------- text


def test_text_says_what_where_why_and_what_to_do():
    said = flat(render.render(DOCUMENTS["audit"], "text"))
    for part in (
        "server1, server2 warning leader-elect-lease-duration of kube-controller-manager is 60s, wanted is 15s",
        "unknown The node could not be read Failed to connect to the host",
        "until the lease of a dead leader runs out nobody schedules",
        "To do: kubekeel remediate sets it",
        "(canonical/microk8s#2203; kubernetes client-go leaderelection.go)",
        "disk full on server1, until 2027-01-31: This disk is watched by the storage team, OPS-4711",
        "Also looked at: 1 well, 1 do not apply",
        "new leader 62 s (71 s) 16 s (21 s)",
        "idle dead connection 2 h 18 min (2 h 28 min) 126 s (136 s)",
    ):
        assert part in said
    assert said.index("Failed to connect") < said.index("FINDINGS")
    # What is the same on all nodes stands there once.
    assert said.count("HTTP2_READ_IDLE_TIMEOUT_SECONDS of") == 1


def test_text_shows_a_plan_as_a_diff_once_for_nodes_that_are_alike():
    said = render.render(DOCUMENTS["plan"], "text")
    assert said.count("- kube-scheduler leader-elect-lease-duration=60s\n    + kube-scheduler leader-elect-lease-duration=15s") == 1
    # What was not set has nothing to take away.
    assert "- kube-controller-manager node-monitor-grace-period" not in said
    assert "---leader-elect-lease-duration=60s" in said
    assert "Would restart: snap.microk8s.daemon-kubelite" in said


def test_text_tells_what_was_not_done():
    said = flat(render.render(DOCUMENTS["broken remediate"], "text"))
    assert "PLANNED, NOT DONE server2, server3" in said
    assert "FAILED server2 Wait until the cluster may lose a server 15 s server1 is Ready; 3 voters are up" in said
    assert "unknown flag: --leader-elect-lease Its previous files are back." in said


def test_text_puts_measured_beside_computed_and_failed_checks_first():
    said = flat(render.render(DOCUMENTS["failed drill"], "text"))
    assert "node down 44.0 s 31.0 s 40.0 s slower than computed" in said
    assert said.index("FAIL node_down of server1: 44.0 s instead of 40.0 s at worst") < said.index("ok everything was done as planned")


@pytest.mark.parametrize("width", [40, 80, 200])
@pytest.mark.parametrize("name", ["audit", "plan", "broken remediate", "failed drill"])
def test_text_loses_no_word_on_a_narrow_terminal(name, width):
    console = Console(file=io.StringIO(), width=width, color_system=None)
    text.print_document(DOCUMENTS[name], console)
    narrow = written(console)
    assert max(map(len, narrow.splitlines())) <= width
    counting = [
        finding for finding in DOCUMENTS[name]["findings"] if findings.weight(finding) and finding in findings.listed(DOCUMENTS[name])
    ]
    said = " ".join(finding["why"] + " " + finding["evidence"] for finding in counting)
    said += " ".join(failure["message"] for failure in DOCUMENTS[name]["failures"])
    said += " ".join(check["text"] for check in (DOCUMENTS[name]["drill"] or {"checks": []})["checks"])
    # Longer words are folded where there is no room.
    assert [word for word in said.split() if len(word) < 9 and word not in narrow] == []


def test_text_has_colours_on_a_terminal_and_none_where_it_may_not(monkeypatch):
    def printed():
        console = Console(file=io.StringIO(), width=100, force_terminal=True, color_system="standard")
        text.print_document(DOCUMENTS["audit"], console)
        return written(console)

    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[1;31mcritical" in printed()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search("\x1b\\[[0-9;]*3[0-9]m", printed())


def test_markup_of_a_node_stays_text():
    assert "[red]not red[/red]" in flat(render.render(hostile(DOCUMENTS["audit"], HOSTILE["markup"]), "text"))


def test_a_recovery_shows_what_its_playbook_said():
    document = samples.document("recover", texts=["1 of 3 nodes is kept from the API servers\n"])
    assert "1 of 3 nodes is kept from the API servers" in render.render(document, "text")


# ---------------------------------------------------------------- JSON


def test_json_is_the_document():
    document = hostile(DOCUMENTS["audit"], HOSTILE["controls"])
    assert json.loads(render.render(document, "json")) == document


def test_json_compares():
    made = json.loads(render.render(DOCUMENTS["remediate"], "json", DOCUMENTS["plan"]))
    assert (made["schema"], made["against"], made["result"]) == (1, DOCUMENTS["plan"]["run"]["id"], DOCUMENTS["remediate"])
    assert made["compared"] == json.loads(json.dumps(compare.compare(DOCUMENTS["remediate"], DOCUMENTS["plan"])))


# ---------------------------------------------------------------- JUnit


def suite(document):
    return ElementTree.fromstring(render.render(document, "junit").encode())[0]  # noqa: S314


def test_junit_has_a_case_for_each_finding():
    document = DOCUMENTS["audit"]
    cases = {(case.get("classname"), case.get("name")): [part.tag for part in case] for case in suite(document).iter("testcase")}
    assert cases["kubekeel.cluster", "cluster_health on the cluster"] == ["failure"]
    assert cases["kubekeel.node", "node_unread on server3"] == ["error"]
    assert cases["kubekeel.guard", "disk_full on server1"] == ["skipped"]
    assert cases["kubekeel.remedy", "k3s_registration on the cluster"] == ["skipped"]
    assert cases["kubekeel.remedy", "kube_proxy on server1"] == []
    assert cases["kubekeel.guard", "snap_hold on server1"] == ["system-out"]
    # Two components have a setting of the same name.
    assert cases["kubekeel.setting", "leader-elect-lease-duration on server1 (2)"] == ["failure"]
    assert cases["kubekeel.run", "audit"] == ["error"]
    assert len(cases) == len(document["findings"]) + 2


def test_junit_counts_what_it_has():
    for document in DOCUMENTS.values():
        made = suite(document)
        for name, tag in (("tests", "testcase"), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(made.get(name)) == len(list(made.iter(tag)))


def test_junit_says_why_something_is_skipped():
    (skipped,) = (case.find("skipped") for case in suite(DOCUMENTS["audit"]).iter("testcase") if case.get("name") == "disk_full on server1")
    assert skipped.get("message") == "waived until 2027-01-31: This disk is watched by the storage team, OPS-4711"


def test_junit_has_gates_and_checks():
    gates = [case for case in suite(DOCUMENTS["broken remediate"]).iter("testcase") if case.get("classname") == "kubekeel.gate"]
    assert [bool(case.findall("failure")) for case in gates] == [False] * 5 + [True]
    assert gates[1].get("time") == "19.700"
    checks = {
        case.get("name"): case for case in suite(DOCUMENTS["failed drill"]).iter("testcase") if case.get("classname") == "kubekeel.drill"
    }
    assert checks["recovered"].findall("failure")
    assert not checks["done"].findall("failure")


@pytest.mark.parametrize(("name", "bad"), [("broken remediate", 1), ("refused", 1), ("nothing", 1), ("remediate", 0), ("drill", 0)])
def test_a_run_that_did_not_end_well_is_never_green(name, bad):
    made = suite(DOCUMENTS[name])
    assert (int(made.get("errors")) > 0) == bool(bad)


# ---------------------------------------------------------------- Prometheus

SAMPLE = re.compile(r"(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?P<labels>.*)\})? (?P<value>[-+0-9.eE]+|NaN|[+-]Inf)")
LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def parsed(said):
    """Return samples by name and labels; written from the description of the format alone."""
    found, known, done = {}, {}, set()
    assert said.endswith("\n")
    current = ""
    for line in said.split("\n")[:-1]:
        if line.startswith("# "):
            _hash, kind, name, rest = line.split(" ", 3)
            assert kind in ("HELP", "TYPE")
            assert (name, kind) not in known
            known[name, kind] = rest
            continue
        match = SAMPLE.fullmatch(line)
        assert match, line
        name = match["name"]
        assert known[name, "TYPE"] == "gauge"
        assert known[name, "HELP"]
        if name != current:
            # All lines of a metric stand together.
            assert name not in done
            done.add(current)
            current = name
        labels, at = {}, 0
        while at < len(match["labels"]):
            label = LABEL.match(match["labels"], at)
            assert label, line
            assert label[1] not in labels
            labels[label[1]] = re.sub(r"\\(.)", lambda one: {"n": "\n"}.get(one[1], one[1]), label[2])
            at = label.end()
        key = (name, frozenset(labels.items()))
        assert key not in found, line
        found[key] = float(match["value"])
    return found


def value(found, name, **labels):
    return found[name, frozenset(labels.items())]


@pytest.mark.parametrize("more", ["", *HOSTILE.values()], ids=["nothing", *HOSTILE])
@pytest.mark.parametrize("name", ["audit", "remediate", "failed drill", "nothing"])
def test_metrics_keep_to_the_format(name, more):
    document = hostile(DOCUMENTS[name], more)
    found = parsed(render.render(document, "prometheus"))
    assert all(dict(labels)["cluster"] == words.clean(document["cluster"]["name"]) for _name, labels in found)


def test_metrics_of_an_audit():
    found = parsed(render.render(DOCUMENTS["audit"], "prometheus"))
    about = {"cluster": "lab", "command": "audit"}
    assert value(found, "kubekeel_run_timestamp_seconds", **about) == 1795350665
    assert value(found, "kubekeel_run_exit_code", **about) == 3
    assert value(found, "kubekeel_run_duration_seconds", **about) == 108.7
    assert value(found, "kubekeel_findings", severity="warning", status="fail", **about) == 11
    assert value(found, "kubekeel_findings", severity="critical", status="waived", **about) == 1
    assert value(found, "kubekeel_findings", severity="critical", status="fail", **about) == 2
    assert value(found, "kubekeel_findings", severity="info", status="unknown", **about) == 0
    assert value(found, "kubekeel_node_findings", node="server1", severity="warning", **about) == 6
    assert value(found, "kubekeel_node_findings", node="server1", severity="critical", **about) == 0
    assert value(found, "kubekeel_finding", id="node_unread", node="server3", severity="critical", status="unknown", **about) == 1
    assert not any(dict(labels).get("id") == "disk_full" for _name, labels in found)
    assert value(found, "kubekeel_failover_seconds", step="endpoint_gone", case="worst", moment="before", **about) == 113.3
    assert value(found, "kubekeel_failover_seconds", step="endpoint_gone", case="typical", moment="after", **about) == 37.1


def test_metrics_of_a_drill():
    about = {"cluster": "lab", "command": "drill"}
    found = parsed(render.render(DOCUMENTS["drill"], "prometheus"))
    assert value(found, "kubekeel_drill_passed", **about) == 1
    assert value(found, "kubekeel_drill_seconds", step="endpoint_gone", **about) == 30.3
    found = parsed(render.render(DOCUMENTS["failed drill"], "prometheus"))
    assert value(found, "kubekeel_drill_passed", **about) == 0
    # What never happened has no duration.
    assert not any(dict(labels).get("step") == "endpoint_gone" for _name, labels in found)


# ---------------------------------------------------------------- Markdown


def tables(said):
    """Return the cells of each table line, read as GitHub reads them."""
    lines = [line for line in said.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


@pytest.mark.parametrize("words", HOSTILE)
@pytest.mark.parametrize("name", ["audit", "plan", "broken remediate", "drill"])
def test_tables_keep_their_columns_whatever_stands_in_them(name, words):
    said = render.render(hostile(DOCUMENTS[name], HOSTILE[words]), "markdown")
    plain, width = [], 0
    for line in re.sub(r"^(`{3,})diff\n.*?^\1$", "", said, flags=re.S | re.M).splitlines():
        if not line.startswith("|"):
            plain.append(line)
            width = 0
            continue
        cells = len(tables(line)[0])
        assert cells == (width or cells)
        width = cells
    # What is left outside of code is escaped.
    assert not re.search(r"<(?!br>|/?details>|/?summary>|/?sub>)", re.sub("(`+).*?\\1", "", "\n".join(plain)))


def test_markdown_says_what_where_why_and_what_to_do():
    said = render.render(DOCUMENTS["audit"], "markdown")
    assert "| 🟠 warning | leader-elect-lease-duration of kube-controller-manager | is 60s, wanted is 15s | server1, server2 |" in said
    assert "| `leader-elect-lease-duration` | until the lease of a dead leader runs out" in said
    assert "| new leader | 62 s (71 s) | 16 s (21 s) |" in said
    assert "**Next:** `kubekeel doctor`" in said


def test_markdown_fences_hold_every_diff():
    document = copy.deepcopy(DOCUMENTS["plan"])
    document["plan"][0]["files"][0]["diff"] += "+````\n+# not a heading\n"
    said = render.render(document, "markdown")
    assert "`````diff\n" in said
    assert "\n`````\n" in said


@pytest.mark.parametrize(
    ("given_", "said"),
    [
        ("a|b", "a\\|b"), ("<b>", "&lt;b&gt;"), ("a\nb", "a<br>b"), ("@someone", "@\u200bsomeone"), ("*a* `b`", "\\*a\\* \\`b\\`"),
        ("[a](b)", "\\[a\\](b)"),
    ],
)  # fmt: skip
def test_markdown_escapes(given_, said):
    assert markdown.escape(given_) == said


def test_markdown_is_never_too_long_for_a_comment():
    said = render.render(DOCUMENTS["large"], "markdown")
    assert len(said) < 65_536
    assert len(render.render(hostile(DOCUMENTS["large"], "x" * 500), "markdown")) < 65_536


# ---------------------------------------------------------------- HTML: the rest stands in test_render_page.py


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_texts_stay_text_in_the_page(words):
    document = hostile(DOCUMENTS["large"], HOSTILE[words])
    page = render.render(document, "html", hostile(DOCUMENTS["audit"], HOSTILE[words]))
    assert page.count("<script") == page.count("</script>") == 1
    assert "<img" not in page
    assert "onerror=alert(1)>" not in page


def test_a_page_of_thirty_nodes_is_small():
    page = render.render(DOCUMENTS["large"], "html", DOCUMENTS["audit"])
    assert len(page.encode()) < 1_000_000
    assert all(f"agent{number}" in page for number in range(5, 30))


def test_a_page_names_nothing_to_load():
    for document in DOCUMENTS.values():
        page = render.render(document, "html")
        assert "default-src &#39;none&#39;" in page
        assert "unsafe" not in page
        assert not re.search(r"(src|href|action)\s*=\s*[\"'](?!data:)", page)
        assert "@import" not in page
        assert "url(" not in page


def percent(bar):
    return float(bar.get("width").rstrip("%"))


def test_the_picture_of_the_budget_says_its_scale():
    made = ElementTree.fromstring(pictures.budget(DOCUMENTS["plan"]))  # noqa: S314
    assert [part.tag for part in made][:2] == ["title", "desc"]
    said = [part.text for part in made.iter("text")]
    assert "logarithmic scale: the same distance is the same factor" in said
    bars = [(part.get("class"), percent(part)) for part in made.iter("rect")]
    assert len(bars) == 4 * len(samples.LABELS)
    assert max(width for _kind, width in bars) <= pictures.BARS
    assert bars[0][0] == "before worst"
    assert bars[0][1] > bars[2][1] > bars[3][1]


def test_the_picture_of_the_budget_is_linear_where_it_can_be():
    document = copy.deepcopy(DOCUMENTS["plan"])
    for moment in document["budget"].values():
        moment["steps"] = moment["steps"][:4]
    made = ElementTree.fromstring(pictures.budget(document))  # noqa: S314
    assert not any("logarithmic" in (part.text or "") for part in made.iter("text"))
    widths = [percent(part) for part in made.iter("rect")]
    assert widths[1] / widths[0] == pytest.approx(62.3 / 71.1, rel=0.01)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.floats(0, 1e6)), min_size=7, max_size=7))
def test_whatever_was_computed_has_a_picture(figures):
    document = DOCUMENTS["plan"] | {"budget": {"before": samples.budget("server1", figures), "after": samples.budget("server1", figures)}}
    made = ElementTree.fromstring(pictures.budget(document))  # noqa: S314
    assert all(0 <= percent(part) <= pictures.BARS for part in made.iter("rect"))


# ---------------------------------------------------------------- comparing


def kinds(document, against):
    return {kind: [(one["id"], one["node"]) for one in found] for kind, found in compare.compare(document, against)["findings"].items()}


def test_nothing_changed():
    compared = compare.compare(DOCUMENTS["audit"], DOCUMENTS["audit"])
    assert {kind for kind, found in compared["findings"].items() if found} == {"same"}
    assert [compared[part] for part in ("facts", "settings", "budget", "drill")] == [[], [], [], []]
    assert compare.rows(compared) == []


def test_findings_that_came_went_and_changed():
    now = copy.deepcopy(DOCUMENTS["simple audit"])
    before = copy.deepcopy(now)
    before["findings"].append(samples.finding("old", "node", "warning", "fail", "server1", title="Old"))
    now["findings"].append(samples.finding("new", "node", "warning", "fail", "server1", title="New"))
    before["findings"].append(samples.finding("turns", "node", "warning", "pass", "server2", title="Turns"))
    now["findings"].append(samples.finding("turns", "node", "warning", "fail", "server2", title="Turns"))
    now["findings"][0]["waiver"] = {"reason": "known", "expires": "2027-01-01"}
    now["findings"][1]["status"] = "unknown"
    made = kinds(now, before)
    assert made["new"] == [("turns", "server2"), ("new", "server1")] or made["new"] == [("new", "server1"), ("turns", "server2")]
    assert sorted(made["gone"]) == [("leader-elect-lease-duration", "server1"), ("old", "server1")]
    assert made["changed"] == [("leader-elect-lease-duration", "server1")]
    assert len(made["same"]) == len(before["findings"]) - 4
    said = flat(render.render(now, "text", before))
    for part in ("new: New on server1", "gone: Old on server1", "(fail before, now unknown)", "still there: "):
        assert part in said


def test_what_nobody_looked_for_is_not_gone():
    before = DOCUMENTS["simple audit"]
    now = copy.deepcopy(before)
    now["findings"] = [one for one in now["findings"] if one["node"] == "server1"]
    now["cluster"]["nodes"][1] |= {"read": False, "problem": "left out by --limit"}
    made = kinds(now, before)
    assert {node for _id, node in made["unseen"]} == {"server2"}
    assert {node for _id, node in made["gone"]} == {"server3"}
    assert kinds(DOCUMENTS["drill"], before)["gone"] == []
    assert kinds(DOCUMENTS["verify"], before)["gone"] == []


def test_a_remediation_ends_the_findings_whose_settings_it_set():
    now = copy.deepcopy(DOCUMENTS["remediate"])
    del now["changes"][2]
    made = kinds(now, DOCUMENTS["simple audit"])
    assert {node for _id, node in made["gone"]} == {"server1", "server2"}
    assert {node for _id, node in made["unseen"]} == {"server3"}


def test_settings_and_budget_in_force_are_compared():
    compared = compare.compare(DOCUMENTS["remediate"], DOCUMENTS["plan"])
    lease = {"setting": "leader-elect-lease-duration of kube-scheduler", "before": "60s", "now": "15s"}
    assert [one for one in compared["settings"] if one["setting"] == lease["setting"]] == [
        {"node": node, **lease} for node in samples.NODES
    ]
    assert compared["budget"][0]["before"] == {"typical": 62.3, "worst": 71.1}
    assert compared["budget"][0]["now"] == {"typical": 16.2, "worst": 20.6}
    assert ("leader-elect-lease-duration of kube-scheduler on server1, server2, server3", "60s", "15s") in compare.rows(compared)
    assert compare.compare(DOCUMENTS["plan"], DOCUMENTS["simple audit"])["budget"] == []


def test_audits_compare_what_they_say_of_a_setting():
    now = copy.deepcopy(DOCUMENTS["simple audit"])
    now["findings"][0]["evidence"] = "is 45s, wanted is 15s"
    assert compare.compare(now, DOCUMENTS["simple audit"])["settings"] == [
        {
            "node": "server1",
            "setting": "leader-elect-lease-duration of kube-controller-manager",
            "before": "is 60s, wanted is 15s",
            "now": "is 45s, wanted is 15s",
        }
    ]


def test_drills_and_releases_are_compared():
    now = copy.deepcopy(DOCUMENTS["failed drill"])
    now["cluster"]["releases"] = ["v1.33.1"]
    rows = compare.rows(compare.compare(now, DOCUMENTS["drill"]))
    assert ("Release", "v1.32.3", "v1.33.1") in rows
    assert ("drill: passed", "PASSED", "FAILED") in rows
    assert ("drill: node down", "30.1 s", "44.0 s") in rows
    assert ("drill: failed requests", "76", "200") in rows


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_every_comparing_format_shows_what_is_different(form):
    said = flat(re.sub("<[^>]*>", " ", render.render(DOCUMENTS["remediate"], form, DOCUMENTS["plan"]).replace("\\-", "-")))
    assert f"Since {DOCUMENTS['plan']['run']['id']}".lower() in said.lower()
    assert re.search(r"new leader\W+62 s \(71 s\)\W+16 s \(21 s\)", said)
