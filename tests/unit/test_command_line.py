"""The command without a cluster: mistakes, signals, and readers that are gone."""

import json
import os
import pathlib
import pty
import signal
import socket
import subprocess
import sys
import time

import pytest

from kubekeel import runs

ROOT = pathlib.Path(__file__).parents[2]
KUBEKEEL = [sys.executable, "-m", "kubekeel"]
HEARS = ["env", "--default-signal=INT"]
"""For those that are interrupted: what runs these tests may have been started with SIGINT ignored."""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@pytest.fixture
def silent(tmp_path):
    """An inventory whose node takes a connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        host = {"ansible_host": "127.0.0.1", "ansible_port": server.getsockname()[1], "ansible_ssh_common_args": "-o ConnectTimeout=60"}
        path = tmp_path / "hosts.yml"
        path.write_text(json.dumps({"all": {"children": {"servers": {"hosts": {"n1": host}}}}}))
        yield path


def words(inventory, folder):
    return [*KUBEKEEL, "audit", "--inventory", str(inventory), "--runs", str(folder)]


def wait_until_it_runs(process_ends):
    """Wait until Ansible asks the node."""
    for _number in range(300):
        time.sleep(0.1)
        assert not process_ends(), "it ended too early"
        found = subprocess.run(["pgrep", "--full", "ssh .*ConnectTimeout=60.* 127.0.0.1"], capture_output=True, check=False)
        if not found.returncode:
            return
    pytest.fail("Ansible never came to the node")


def ended_as(folder):
    return json.loads(runs.named("latest", folder).read_text())["run"]["status"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_is_kept(silent, tmp_path, number):
    process = subprocess.Popen(
        [*HEARS, *words(silent, tmp_path / "runs")], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_until_it_runs(process.poll)
    process.send_signal(number)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "INTERRUPTED" in output
    assert "Traceback" not in errors
    assert ended_as(tmp_path / "runs") == "interrupted"


def test_a_terminal_that_goes_away_interrupts(silent, tmp_path):
    pid, terminal = pty.fork()
    if not pid:
        os.execve(sys.executable, words(silent, tmp_path / "runs"), ENVIRONMENT)  # noqa: S606
    wait_until_it_runs(lambda: False)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 130
    assert ended_as(tmp_path / "runs") == "interrupted"


def test_progress_that_nobody_reads_does_not_end_a_run(silent, tmp_path):
    process = subprocess.Popen(
        [*HEARS, *words(silent, tmp_path / "runs")], env=ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    wait_until_it_runs(process.poll)
    assert process.stderr
    process.stderr.close()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert ended_as(tmp_path / "runs") == "interrupted"


def test_a_reader_that_has_enough_is_no_error():
    process = subprocess.Popen([*KUBEKEEL, "explain"], env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(60)
    assert "Traceback" not in errors


FLEET = """\
all:
  vars: {ansible_host: 127.0.0.1, ansible_port: 1}
  children:
    clusters: {children: {north: {hosts: {n1: {}}}, south: {hosts: {s1: {}}}}}
    servers: {hosts: {n1: {}, s1: {}}}
"""


def test_a_fleet_is_summed_up_and_can_be_gone_on_with(tmp_path):
    (tmp_path / "fleet.yml").write_text(FLEET)

    def remediate(*more):
        common = ["--inventory", str(tmp_path / "fleet.yml"), "--runs", str(tmp_path / "runs"), "--format", "json", "--parallel", "1"]
        done = subprocess.run([*KUBEKEEL, "remediate", *common, *more], env=ENVIRONMENT, text=True, capture_output=True, check=False)
        assert done.returncode == 3, done.stderr
        return json.loads(done.stdout)

    first = remediate()
    assert [(each["cluster"], each["status"]) for each in first["outcomes"]] == [("north", "incomplete")]
    assert first["not_begun"] == ["south"]
    again = remediate("--resume", first["id"], "--stop-after", "2")
    assert [each["cluster"] for each in again["outcomes"]] == ["north", "south"]
    words = [*KUBEKEEL, "remediate", "--inventory", str(tmp_path / "fleet.yml"), "--format", "html"]
    refused = subprocess.run(words, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert refused.returncode == 2
    assert "text or json" in refused.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["audit", "--inventory", "none"],
        ["audit", "--fail-on", "bad"],
        ["audit", "--inventory", "INVENTORY", "--resume", "x"],
        ["audit", "--inventory", "INVENTORY#north"],
        ["verify", "--inventory", "INVENTORY", "--via", "bastion"],
        ["drill", "--inventory", "INVENTORY"],
        ["report", "none"],
        ["report", "README.md"],
        ["explain", "no_such_thing"],
        ["alert", "--inventory", "INVENTORY"],
        ["fly"],
    ],
)
def test_a_mistake_is_a_sentence(arguments, silent, tmp_path):
    filled = [word.replace("INVENTORY", str(silent)) for word in arguments]
    environment = {**ENVIRONMENT, "KUBEKEEL_RUNS": str(tmp_path / "runs")}
    done = subprocess.run(
        [*KUBEKEEL, *filled], env=environment, stdin=subprocess.DEVNULL, text=True, capture_output=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2
    assert "Error: " in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_lab_is_not_started_where_further_commands_would_go_elsewhere(silent):
    environment = {**ENVIRONMENT, "KUBEKEEL_INVENTORY": str(silent)}
    done = subprocess.run([*KUBEKEEL, "lab", "up"], env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 2
    assert f"names the inventory {silent}" in " ".join(done.stderr.split())


def test_options_for_the_lab_reach_the_lab():
    words = [*KUBEKEEL, "lab", "exec", "--name", "no-such-lab", "server1", "--", "true", "--inventory", "x"]
    done = subprocess.run(words, env=ENVIRONMENT, text=True, capture_output=True, check=False)
    assert "No lab named 'no-such-lab' stands" in done.stderr
