"""Programs as answers: run in a sandbox, judged by their tests, and scored by pass@k."""

from langbridge.evaluate.code.pass_at_k import pass_at_k
from langbridge.evaluate.code.sandbox import Limits, Program, Sandbox, Verdict, find_sandbox, run_all

__all__ = ["Limits", "Program", "Sandbox", "Verdict", "find_sandbox", "pass_at_k", "run_all"]
