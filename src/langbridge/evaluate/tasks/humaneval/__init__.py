"""HumanEval and HumanEval-MT: functions written from their descriptions, judged by running them."""
