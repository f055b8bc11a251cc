"""Shape annotations are checked at run time, in every module that has any."""

import importlib
from pathlib import Path

import pytest

SOURCES = Path(__file__).parent.parent / "src"
SHAPED = [path for path in SOURCES.rglob("*.py") if "from jaxtyping import" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", SHAPED, ids=lambda path: path.stem)
def test_the_hook_of_conftest_covers_the_module(path: Path) -> None:
    module = importlib.import_module(".".join(path.relative_to(SOURCES).with_suffix("").parts))
    assert type(module.__spec__.loader).__name__ == "_JaxtypingLoader"


def test_a_wrong_shape_is_an_error() -> None:
    import torch
    from jaxtyping import TypeCheckError

    from langbridge.model.connectors.linear import LinearConnector

    connector = LinearConnector(8, 4)
    with pytest.raises(TypeCheckError):
        connector(torch.zeros(2, 3, 8), torch.ones(2, 4, dtype=torch.long))
