"""What a remediated node looks like, read over SSH: not what was written, but what is in force. See checks.py."""

import pytest

from kubekeel.verify import checks, plugin


@pytest.mark.parametrize("check", checks.ALL, ids=lambda check: check.name)
def test_in_force(check: checks.Check, node: checks.Node, request: pytest.FixtureRequest) -> None:
    """Fails with a sentence for each thing that is not as it should be."""
    told = request.node.user_properties
    try:
        wrong = check.look(node)
    except checks.DoesNotApplyError as error:
        told.append((plugin.EVIDENCE, str(error)))
        pytest.skip(str(error))
    except checks.UnknownError as error:
        told += [(plugin.STATUS, "unknown"), (plugin.EVIDENCE, str(error))]
        pytest.fail(str(error), pytrace=False)
    if wrong:
        told += [(plugin.STATUS, "fail"), (plugin.EVIDENCE, "; ".join(wrong))]
        pytest.fail("\n".join(wrong), pytrace=False)
