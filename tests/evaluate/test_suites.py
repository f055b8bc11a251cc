"""What may be handed over to the harness's own command line."""

import pytest

from langbridge.errors import LangBridgeError
from langbridge.evaluate.suites import check_handed_over


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "hf", "--tasks", "lb_humaneval"],
        ["--tasks=lb_mgsm,lb_humaneval", "--limit", "2"],
        ["run", "-t", "lb_mgsm", "lb_humaneval"],
    ],
)
def test_a_suite_that_is_scored_after_generation_is_refused(arguments: list[str]) -> None:
    with pytest.raises(LangBridgeError, match=r"--tasks: lb_humaneval: .*`langbridge evaluate --suite humaneval`"):
        check_handed_over(arguments)


def test_all_else_goes_through() -> None:
    check_handed_over(["--tasks", "lb_mgsm,lb_xcopa,humaneval", "--output_path", "lb_humaneval"])
    check_handed_over(["ls", "tasks"])
