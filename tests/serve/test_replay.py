"""An engine that answers with what was answered before."""

import json
from pathlib import Path

import pytest

from langbridge.errors import LangBridgeError
from langbridge.serve.engine import Decoding, Request
from langbridge.serve.replay import ReplayEngine


def test_answers_of_a_file_and_of_a_function(tmp_path: Path) -> None:
    rows = [{"prompt": "1 + 1?", "output": "It is 2."}, {"prompt": "2 + 2?", "output": "It is 4."}]
    (tmp_path / "answers.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = ReplayEngine.recorded(tmp_path / "answers.jsonl")
    assert [one.text for one in engine.answers(["2 + 2?", "1 + 1?"])] == ["It is 4.", "It is 2."]
    with pytest.raises(LangBridgeError, match=r"no answer to the prompt '3 \+ 3"):
        engine.answers(["3 + 3?"])
    with pytest.raises(LangBridgeError, match="no likelihoods"):
        list(engine.score([Request("1 + 1?")], ["2"]))
    asked = ReplayEngine(lambda request: request.prompt.upper(), lambda request, after: -float(len(after)))
    assert [one.text for one in asked.answers(["a b c"])] == ["A B C"]
    assert dict(asked.score([Request("a")], ["xyz"]))[0].log_probability == -3
    assert asked.asked == [(Request("a b c"), Decoding()), (Request("a"), "xyz")]
