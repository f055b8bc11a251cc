"""What is sampled can be sampled again, whatever was drawn before it."""

from collections.abc import Callable
from pathlib import Path

import torch
from lm_eval.api.instance import Instance

from langbridge.evaluate.harness import LangBridgeLM
from langbridge.serve.sampling import seeded

DRAWN = {"until": [], "do_sample": True, "temperature": 1.0, "max_gen_toks": 8}


def draw(batch: list, **settings: int) -> list[float]:
    with seeded(batch, **settings):
        return torch.rand(4).tolist()


def test_numbers_depend_on_seed_and_batch_alone() -> None:
    first = draw(["a", 0])
    torch.rand(3)
    assert draw(["a", 0]) == first
    assert draw(["a", 1]) != first, "another sample of the same question"
    assert draw(["a", 0], seed=43) != first


def test_what_comes_after_is_as_if_nothing_had_been_drawn() -> None:
    torch.manual_seed(0)
    expected = torch.rand(2).tolist()
    torch.manual_seed(0)
    draw(["a"])
    assert torch.rand(2).tolist() == expected


def test_a_bridge_samples_the_same_again_and_each_sample_anew(bridge_folder: Path) -> None:
    lm = LangBridgeLM(str(bridge_folder), batch_size=1)
    requests = [Instance("generate_until", {}, ("b", DRAWN), 0, ("task", 0, 3)) for _ in range(3)]
    first = lm.generate_until(requests)
    assert len(set(first)) == 3, "one batch each, and not the same sample three times"
    torch.rand(5)
    assert lm.generate_until(requests) == first


def test_an_evaluation_seeds_every_batch_of_either_kind_of_model(
    base_folders: tuple[Path, Path], bridge_folder: Path, tmp_path: Path, monkeypatch
) -> None:
    from langbridge.evaluate.asking import Recorder
    from langbridge.evaluate.models import load_asker
    from langbridge.evaluate.responses import Responses

    question: Callable = lambda doc: doc["prompt"]  # noqa: E731
    task = type("Task", (), {"task": type("Inner", (), {"doc_to_text": staticmethod(question)})(), "language": "en"})()
    task.task.config = type("Config", (), {"metadata": {}})()
    requests = [
        Instance("generate_until", {"prompt": "b"}, ("b", DRAWN), 0, ("task", 0, 3), repeats=3) for _ in range(3)
    ]
    for kind, folder in (("bridge", bridge_folder), ("plain", base_folders[1])):
        asker, _ = load_asker(str(folder), batch_size=1, device="cpu")
        assert asker.settings()["seed"] == 42
        found = []
        for time in range(2):
            torch.rand(time + 1)
            responses = Responses(tmp_path / f"{kind}{time}", "model")
            found.append(Recorder(asker, {"task": task}, responses).generate_until(requests))
        assert found[0] == found[1], kind
        assert len(set(found[0])) > 1, kind
