"""The page of a result in a browser: it loads nothing, its filters work, it fits a telephone, and everybody can read it."""

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import pytest

from kubekeel import render
from kubekeel.render.headline import headline

from .test_render import DOCUMENTS, HOSTILE, hostile

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")

SHOWN = ("audit", "plan", "broken remediate", "refused", "drill", "failed drill", "nothing")
PAGES = {name: render.render(DOCUMENTS[name], "html") for name in SHOWN}
PAGES["compared"] = render.render(DOCUMENTS["remediate"], "html", DOCUMENTS["audit"])
PAGES |= {
    f"hostile {words} {name}": render.render(hostile(DOCUMENTS[name], text), "html", hostile(DOCUMENTS["audit"], text))
    for words, text in HOSTILE.items()
    for name in ("audit", "broken remediate")
    if words in ("html", "long")
}

OUTER = """<!DOCTYPE html><title>frames</title><body style="margin:0"><script>
const results = {};
addEventListener("message", (event) => {
  results[event.data.name] = event.data.result;
  document.body.dataset.results = JSON.stringify(results);
});
</script>"""


def digest(script):
    return "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def look(folder, pages, script, width=1280, dark=False):
    """Return what a script returns in each page, and what the browser wrote to its console; the page's policy gets that script too."""
    outer = OUTER
    for number, (name, page) in enumerate(pages.items()):
        made = f"parent.postMessage({{name: {json.dumps(name)}, result: (() => {{ {script} }})()}}, '*');"
        allowed = html.escape(f"script-src '{digest(made)}' ", quote=True).replace("&#x27;", "&#39;")
        page = page.replace("script-src ", allowed, 1).replace("</body>", f"<script>{made}</script></body>")
        (folder / f"{number}.html").write_text(page)
        outer += f'<iframe src="{number}.html" style="border:0;width:{width}px;height:900px"></iframe>'
    (folder / "outer.html").write_text(outer)
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr", "--hide-scrollbars"]
    options += [
        f"--user-data-dir={folder}/profile",
        f"--window-size={max(width, 600)},900",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
    ]
    done = subprocess.run(
        [str(CHROMIUM), *options, "--dump-dom", (folder / "outer.html").as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r'data-results="([^"]*)"', done.stdout)
    assert found, done.stderr
    results = json.loads(html.unescape(found[1]))
    assert list(pages) == sorted(results, key=list(pages).index), "a page did not answer"
    return results, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def test_pages_load_nothing_and_write_nothing_to_the_console(tmp_path):
    script = """return {
        loaded: performance.getEntriesByType("resource").map((one) => one.name), title: document.title,
        scripts: document.scripts.length, images: document.images.length,
        handlers: document.querySelectorAll("[onerror], [onclick]").length,
    };"""
    results, console = look(tmp_path, PAGES, script)
    assert console == []
    for name, result in results.items():
        assert result["loaded"] == [], name
        assert (result["scripts"], result["images"], result["handlers"]) == (2, 0, 0), name
    for name in SHOWN:
        assert results[name]["title"] == headline(DOCUMENTS[name])
    assert "<script>" in results["hostile html audit"]["title"]


def test_no_other_script_runs(tmp_path):
    page = PAGES["audit"].replace(
        "</main>", "<script>document.title = 'owned'</script><img src=x onerror=\"document.title = 'owned'\"></main>"
    )
    results, console = look(tmp_path, {"audit": page}, "return document.title;")
    assert results["audit"] == headline(DOCUMENTS["audit"])
    assert len(console) >= 2
    assert all("Content Security Policy" in line for line in console)


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(tmp_path, width):
    script = """
        document.querySelectorAll("details").forEach((one) => { one.open = true; });
        const inside = (one) => one.closest(".wide, .diff, svg, form[hidden]") !== null;
        const beyond = (one) => one.getBoundingClientRect().right > innerWidth + 1;
        return {
            page: document.documentElement.scrollWidth,
            out: [...document.body.querySelectorAll("*")].filter((one) => !inside(one) && beyond(one))
                .map((one) => one.tagName + " " + one.className),
            cut: [...document.querySelectorAll("svg.bars text")].filter(beyond)
                .map((one) => one.textContent),
        };"""
    results, _console = look(tmp_path, PAGES, script, width)
    for name, result in results.items():
        assert result["page"] <= width, name
        assert result["out"] == [], name
        if not name.startswith("hostile"):
            assert result["cut"] == [], name


FILTER = """
    const set = (name, value) => {
        const field = document.getElementById("filter-" + name);
        field.value = value;
        field.dispatchEvent(new Event("input", {bubbles: true}));
    };
    const shown = () => [...document.querySelectorAll("#findings .cards > li")].filter((one) => one.offsetParent !== null)
        .map((one) => one.querySelector("code").textContent);
    const found = {bar: document.getElementById("filters").offsetParent !== null, all: shown()};
    for (const [name, value] of CASES) {
        set(name, value);
        found[name + "=" + value] = shown();
        found.said = document.getElementById("shown").textContent;
        set(name, "");
    }
    set("severity", "warning"); set("node", "server1"); set("text", "BUG release");
    found.several = shown();
    return found;
"""


def test_filters(tmp_path):
    cases = [
        ["severity", "critical"],
        ["state", "waived"],
        ["state", "unknown"],
        ["state", "counts"],
        ["node", "server2"],
        ["node", "(cluster)"],
        ["text", "Lease SCHEDULER"],
        ["text", "nothing has these words"],
    ]
    found = look(tmp_path, {"audit": PAGES["audit"]}, FILTER.replace("CASES", json.dumps(cases)))[0]["audit"]
    assert found["bar"]
    assert len(found["all"]) == 13
    assert found["severity=critical"] == ["cluster_health", "damaged_line", "node_unread", "disk_full"]
    assert found["state=waived"] == ["disk_full"]
    assert found["state=unknown"] == ["node_unread"]
    assert not {"disk_full", "kube_proxy", "k3s_registration"} & set(found["state=counts"])
    assert len(found["state=counts"]) == 10
    assert {"damaged_line", "kube_proxy"} <= set(found["node=server2"])
    assert "node_unread" not in found["node=server2"]
    assert found["node=(cluster)"] == ["cluster_health", "k3s_registration"]
    assert found["text=Lease SCHEDULER"] == ["leader-elect-lease-duration"]
    assert found["text=nothing has these words"] == []
    assert found["said"] == "0 of 13 shown"
    assert found["several"] == ["canonical/microk8s#3227"]


def test_without_scripts_everything_is_there(tmp_path):
    page = re.sub(r"<script>.*</script>", "", PAGES["audit"], flags=re.S)
    script = """return {
        bar: document.getElementById("filters").offsetParent === null,
        shown: [...document.querySelectorAll("#findings .cards > li")].filter((one) => one.offsetParent !== null).length,
    };"""
    assert look(tmp_path, {"audit": page}, script)[0]["audit"] == {"bar": True, "shown": 13}


def test_everybody_can_use_it(tmp_path):
    script = """return {
        headings: [...document.querySelectorAll("h1, h2, h3, h4")].map((one) => Number(one.tagName[1])),
        unlabelled: [...document.querySelectorAll("input, select")].filter((one) => !one.labels.length).map((one) => one.id),
        pictures: [...document.querySelectorAll("svg:not([aria-hidden])")].map((one) =>
            [one.getAttribute("role"), one.querySelector(":scope > title")?.textContent || "",
             one.querySelector(":scope > desc")?.textContent || one.closest("figure").querySelector("figcaption").textContent]),
        ids: [...document.querySelectorAll("[id]")].map((one) => one.id),
        language: document.documentElement.lang,
        landmarks: ["header", "main", "footer"].map((one) => document.querySelectorAll(one).length),
    };"""
    results, _console = look(tmp_path, PAGES, script)
    for name, result in results.items():
        assert result["headings"][0] == 1, name
        assert result["headings"].count(1) == 1, name
        assert all(now - before <= 1 for before, now in zip(result["headings"], result["headings"][1:], strict=False)), name
        assert result["unlabelled"] == [], name
        assert all(role == "img" and title and about for role, title, about in result["pictures"]), name
        assert len(set(result["ids"])) == len(result["ids"]), name
        assert (result["language"], result["landmarks"]) == ("en", [1, 1, 1]), name


CONTRAST = """
    document.querySelectorAll("details").forEach((one) => { one.open = true; });
    const parts = (colour) => (colour.match(/[\\d.]+/g) || []).map(Number);
    const light = (colour) => {
        const [r, g, b] = parts(colour).map((one) => one / 255).map((one) => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const behind = (one) => {
        for (let each = one; each; each = each.parentElement) {
            const colour = getComputedStyle(each).backgroundColor;
            if (parts(colour).length === 3 || parts(colour)[3] > 0) { return colour; }
        }
        return "rgb(255, 255, 255)";
    };
    const bad = new Set();
    for (const one of document.body.querySelectorAll("*")) {
        const words = [...one.childNodes].some((each) => each.nodeType === 3 && each.data.trim());
        if (!words || one.closest("script, .wide svg, title, desc")) { continue; }
        const style = getComputedStyle(one);
        const pair = [light(one.closest("svg") ? style.fill : style.color), light(behind(one))].sort((a, b) => b - a);
        const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (ratio < 4.5) { bad.add(one.tagName + "." + (one.getAttribute("class") || "") + " " + ratio.toFixed(2)); }
    }
    return [...bad];
"""


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_contrast(tmp_path, dark):
    results, _console = look(tmp_path, PAGES, CONTRAST, dark=dark)
    assert {name: bad for name, bad in results.items() if bad} == {}


def test_dark_is_dark(tmp_path):
    script = "return getComputedStyle(document.body).backgroundColor;"
    colours = [look(tmp_path, {"audit": PAGES["audit"]}, script, dark=dark)[0]["audit"] for dark in (False, True)]
    assert colours == ["rgb(244, 246, 248)", "rgb(18, 24, 29)"]


def test_a_drill_is_drawn(tmp_path):
    script = "return [...document.querySelectorAll('#drill svg text')].map((one) => one.textContent);"
    results, _console = look(tmp_path, {"drill": PAGES["drill"]}, script)
    assert "server1 lost" in results["drill"]
    assert "endpoint gone 30.3 s" in results["drill"]
