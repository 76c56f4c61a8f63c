"""The command on a real cluster: every exit code by what causes it, and a remediation that is interrupted and goes on."""

import datetime
import json
import pathlib
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
import yaml

from kubekeel import result

from .conftest import ROOT, Cluster, standing, without_records

KUBEKEEL = [sys.executable, "-m", "kubekeel"]


@pytest.fixture(scope="module", params=["microk8s", pytest.param("k3s", marks=pytest.mark.thorough("k3s"))])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with standing("test-command", "--distribution", request.param) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("kept")


class Kubekeel:
    """Runs the command against the cluster, as a person would."""

    def __init__(self, cluster: Cluster, folder: pathlib.Path) -> None:
        self.cluster, self.folder = cluster, folder

    def words(self, *words: str, inventory: pathlib.Path | None = None) -> list[str]:
        return [*KUBEKEEL, *words, "--inventory", str(inventory or self.cluster.inventory), "--runs", str(self.folder)]

    def __call__(self, *words: str, inventory: pathlib.Path | None = None) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the result; nothing where there is none."""
        done = subprocess.run(
            [*self.words(*words, inventory=inventory), "--format", "json"], cwd=ROOT, text=True, capture_output=True, check=False
        )
        self.cluster.outputs += [done.stdout, done.stderr]
        print(done.stderr)
        assert "Traceback" not in done.stderr
        document: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        if document:
            jsonschema.validate(document, result.schema())
            assert document["run"]["exit_code"] == done.returncode
        return done.returncode, document


@pytest.fixture
def kubekeel(cluster: Cluster, folder: pathlib.Path) -> Kubekeel:
    return Kubekeel(cluster, folder)


def counted(document: dict[str, Any], status: str, kind: str) -> set[str]:
    return {each["node"] for each in document["findings"] if (each["status"], each["kind"]) == (status, kind)}


def test_a_plan_shows_what_would_change_and_changes_nothing(kubekeel: Kubekeel, cluster: Cluster) -> None:
    code, document = kubekeel("plan")
    assert code == 0
    assert [each["node"] for each in document["plan"]] == cluster.nodes
    assert all("+" in file["diff"] for each in document["plan"] for file in each["files"])
    assert document["changes"] == []
    before, after = (
        {step["name"]: step["worst"] for step in document["budget"][moment]["steps"]}["endpoint_gone"] for moment in ("before", "after")
    )
    assert before > 60 > after
    assert cluster.state() == cluster.original


def test_findings_at_or_above_what_is_asked_for(kubekeel: Kubekeel, cluster: Cluster) -> None:
    code, document = kubekeel("audit", "--fail-on", "warning")
    assert code == 1
    assert counted(document, "fail", "setting") == set(cluster.nodes)
    assert document["run"]["status"] == "findings"


def test_what_is_waived_does_not_count(kubekeel: Kubekeel, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    limit = ("--limit", cluster.servers[0])
    _code, document = kubekeel("audit", *limit)
    differing = {each["id"] for each in document["findings"] if each["status"] == "fail"}
    waivers = tmp_path / "waivers.yml"
    expires = datetime.date.today() + datetime.timedelta(days=30)
    waivers.write_text(yaml.safe_dump({"waivers": [{"id": one, "reason": "a test", "expires": expires} for one in differing]}))
    code, document = kubekeel("audit", *limit, "--fail-on", "warning", "--waivers", str(waivers))
    assert code == 0
    assert {each["waiver"]["reason"] for each in document["findings"] if each["status"] == "fail"} == {"a test"}


def test_what_is_not_there_is_a_mistake_of_the_user(kubekeel: Kubekeel, tmp_path: pathlib.Path) -> None:
    assert kubekeel("audit", inventory=tmp_path / "none") == (2, {})
    assert kubekeel("audit", "--no-such-option") == (2, {})
    code, document = kubekeel("audit", "--extra-vars", "preflight_spare=perhaps")
    assert (code, document["run"]["status"]) == (2, "usage")


def test_a_drill_asks_whether_that_is_meant(kubekeel: Kubekeel, cluster: Cluster) -> None:
    assert kubekeel("drill") == (2, {})
    code, document = kubekeel("drill", "--confirm", "another")
    assert (code, document["run"]["status"]) == (5, "refused")
    assert cluster.not_ready(cluster.servers[0]) == []


def test_a_node_that_cannot_be_read_is_unknown(kubekeel: Kubekeel, cluster: Cluster, tmp_path: pathlib.Path) -> None:
    inventory = yaml.safe_load((cluster.inventory / "hosts.yml").read_text())
    inventory["all"]["children"]["agents"]["hosts"] = {"nobody": {"ansible_host": "127.0.0.1", "ansible_port": 1}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(inventory))
    code, document = kubekeel("audit", inventory=tmp_path / "hosts.yml")
    assert (code, document["run"]["status"]) == (3, "incomplete")
    assert counted(document, "unknown", "node") == {"nobody"}
    assert [each["unreachable"] for each in document["failures"]] == [True]
    assert not [each for each in document["findings"] if each["node"] == "nobody" and each["status"] == "pass"]


def test_values_that_contradict_each_other_are_refused(kubekeel: Kubekeel, cluster: Cluster) -> None:
    code, document = kubekeel("remediate", "--extra-vars", "leader_election_lease_duration=5s")
    assert (code, document["run"]["status"]) == (5, "refused")
    assert document["failures"][0]["message"].startswith("Nothing was changed")
    assert cluster.state() == cluster.original


def test_a_verification_of_what_was_never_set_fails(kubekeel: Kubekeel, cluster: Cluster) -> None:
    code, document = kubekeel("verify")
    assert (code, document["run"]["status"]) == (4, "failed")
    assert counted(document, "fail", "verification") == set(cluster.nodes)


def test_an_interrupted_remediation_finishes_its_node_and_goes_on_later(kubekeel: Kubekeel, cluster: Cluster) -> None:
    first, *others = cluster.nodes
    # What runs these tests may have been started with SIGINT ignored.
    words = ["env", "--default-signal=INT", *kubekeel.words("remediate", "--format", "json")]
    process = subprocess.Popen(words, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    for line in process.stderr:
        if first in line and "restarting" in line:
            process.send_signal(signal.SIGINT)
            break
    output, errors = process.communicate(timeout=300)
    assert process.returncode == 130, errors
    document = json.loads(output)
    assert [each["node"] for each in document["changes"]] == [first]
    assert [gate["passed"] for gate in document["gates"]] == [True, True, True]
    state = cluster.state()
    assert {node for node in cluster.nodes if without_records(state[node]) != without_records(cluster.original[node])} == {first}
    assert cluster.not_ready(cluster.servers[0]) == []

    # Whole and resumable: nobody holds the cluster, and the same command does the rest.
    code, document = kubekeel("remediate")
    assert code == 0
    assert [each["node"] for each in document["changes"]] == others
    cluster.remediated = document["run"]["taken_back_by"]


def test_what_was_remediated_is_verified(kubekeel: Kubekeel) -> None:
    code, document = kubekeel("verify")
    assert (code, document["run"]["status"]) == (0, "ok")
    assert {each["status"] for each in document["findings"]} <= {"pass", "skip"}
    assert kubekeel("audit", "--fail-on", "warning")[0] == 0


def test_a_run_is_rendered_again_and_compared(kubekeel: Kubekeel) -> None:
    reports = [path.parent.name for path in sorted(kubekeel.folder.glob("*-audit-*/result.json"))]
    words = [*KUBEKEEL, "report", reports[-1], "--against", reports[0], "--runs", str(kubekeel.folder)]
    done = subprocess.run(words, cwd=ROOT, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "leader-elect-lease-duration" in done.stdout


def test_runs_are_taken_back_by_their_names(kubekeel: Kubekeel, cluster: Cluster) -> None:
    runs = [path.parent.name for path in sorted(kubekeel.folder.glob("*-remediate-*/result.json"), reverse=True)]
    changed = [run for run in runs if json.loads((kubekeel.folder / run / "result.json").read_text())["changes"]]
    assert len(changed) == 2
    for run in changed:
        code, document = kubekeel("rollback", "--run", run)
        assert code == 0
        assert document["changes"]
    state = cluster.state()
    assert {node: without_records(state[node]) for node in state} == {
        node: without_records(cluster.original[node]) for node in cluster.original
    }


def test_no_secret_was_kept(kubekeel: Kubekeel, cluster: Cluster) -> None:
    cluster.assert_keeps_its_secrets(kubekeel.folder)
