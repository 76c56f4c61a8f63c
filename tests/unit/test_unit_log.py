"""Which lines of a unit's log are shown."""

from ansible_collections.kubekeel.ha.plugins.module_utils.unit_log import MOST, telling_lines

REFUSED = 'Error: invalid argument "abc" for "--node-cidr-mask-size" flag'


def death(moment: str) -> list[str]:
    """What K3s logs each time that a component refuses its flags."""
    usage = [f"      --flag-{number} string" for number in range(40)]
    return [REFUSED, "Usage:", *usage, f'time="{moment}" level=fatal msg="kube-controller-manager exited: exit status 1"']


def test_a_unit_that_died_again_and_again_tells_it_once() -> None:
    lines = [line for second in range(30) for line in death(f"2026-11-21T12:27:{second:02}Z")]
    assert telling_lines(lines) == [REFUSED, death("2026-11-21T12:27:00Z")[-1]]


def test_a_unit_that_tells_nothing_shows_its_last_lines() -> None:
    lines = [f"line {number}" for number in range(100)]
    assert telling_lines(lines) == lines[-MOST:]
