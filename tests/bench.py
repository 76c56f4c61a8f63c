"""How long does a run take that finds nothing to do, beside a ping of the same nodes? And what does the command add to it?

Takes the lab NAME (default: lab) where it stands, or makes one; both are remediated first. Runs in turn, prints medians. Fails
where `kubekeel audit` takes more than a second longer than the playbook that it runs.
"""

import os
import statistics
import subprocess
import sys
import time

from rich.console import Console
from rich.table import Table

NAME = os.environ.get("NAME", "lab")
INVENTORY = f"inventories/{NAME}"
RUNS = int(os.environ.get("RUNS", "7"))
COMMANDS = {
    "ansible -m ping": ["ansible", "-i", INVENTORY, "all", "-m", "ansible.builtin.ping"],
    "kubekeel.ha.audit": ["ansible-playbook", "-i", INVENTORY, "kubekeel.ha.audit"],
    "kubekeel audit": [sys.executable, "-m", "kubekeel", "audit", "--inventory", INVENTORY],
    "kubekeel.ha.remediate": ["ansible-playbook", "-i", INVENTORY, "kubekeel.ha.remediate"],
}
ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""As where kubekeel is installed: its modules are compiled once, not in each run."""
OVERHEAD = 1.0
"""Seconds that the command may add to a run."""


def timed(command: list[str]) -> float:
    """Run a command that has to succeed and return its seconds."""
    start = time.monotonic()
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=ENVIRONMENT)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"{' '.join(command)} ended with {done.returncode}:\n{(done.stderr or done.stdout)[-3000:]}")
    return seconds


def main() -> None:
    """Measure and print one table."""
    console = Console()
    if not os.path.exists(f"{INVENTORY}/hosts.yml"):
        subprocess.run([sys.executable, "-m", "lab", "up", "--name", NAME], check=True)
    console.print("Remediate once, so that there is nothing to do")
    timed(COMMANDS["kubekeel.ha.remediate"])
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for number in range(RUNS):
        console.print(f"Round {number + 1} of {RUNS}")
        # To and fro, so that neither of two neighbours is always the later one.
        for name in list(COMMANDS)[:: -1 if number % 2 else 1]:
            seconds[name].append(timed(COMMANDS[name]))
    base = statistics.median(seconds["ansible -m ping"])
    table = Table(title=f"Nothing to do on the nodes of {INVENTORY}, {RUNS} runs in turn", title_justify="left")
    for column in ("command", "median s", "fastest s", "slowest s", "x ping"):
        table.add_column(column, justify="left" if column == "command" else "right", no_wrap=True)
    for name, found in seconds.items():
        median = statistics.median(found)
        table.add_row(name, f"{median:.1f}", f"{min(found):.1f}", f"{max(found):.1f}", f"{median / base:.1f}")
    console.print(table)
    # Each beside the one of the same round, so that a machine that gets slower meanwhile counts for both.
    pairs = zip(seconds["kubekeel audit"], seconds["kubekeel.ha.audit"], strict=True)
    overhead = statistics.median(command - playbook for command, playbook in pairs)
    console.print(f"The command adds {overhead:.2f} s to an audit; {OVERHEAD:.0f} s is what it may")
    if overhead > OVERHEAD:
        sys.exit(1)


if __name__ == "__main__":
    main()
