"""A model of one's own, by the name of the function that builds it."""

from pathlib import Path

import pytest

from attnchain_evals.bench.model_loading import check_model, load
from attnchain_interp import AttentionError, capture

MODULE = """
from attnchain_evals.bundled import bundled_vit, preprocess
from attnchain_interp.capture import LoadedModel

def build():
    return bundled_vit().train(), preprocess

def whole():
    return LoadedModel(*build(), {"x": None})

def alone():
    return bundled_vit()

def text():
    return "model", preprocess

def broken():
    raise RuntimeError("no weights")
"""


def test_it_is_read_with_its_preprocessing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    found = load("python:my_module:build")
    assert not found.model.training
    assert capture(found.model, **found.sample).tokens.grid == (14, 14)
    assert load("python:my_module:whole").sample == {"x": None}
    for function, said in (
        ("alone", "cannot unpack|not iterable"),
        ("text", "returned str for a model"),
        ("broken", "RuntimeError: no weights"),
        ("nothing", "AttributeError"),
    ):
        with pytest.raises(AttentionError, match=said):
            load(f"python:my_module:{function}")
    with pytest.raises(AttentionError, match="ModuleNotFoundError"):
        load("python:no_such_module:build")
    with pytest.raises(AttentionError, match="names no function"):
        load("python:my_module")
    with pytest.raises(AttentionError, match="model 'python:' is unknown"):
        check_model("python:")
