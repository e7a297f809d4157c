"""A misspelt name, an unreachable hub, a missing folder and broken files have different messages."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError, URLError

import pytest
from huggingface_hub.errors import GatedRepoError, HFValidationError, LocalEntryNotFoundError, RepositoryNotFoundError

from attnchain_evals.bench.loading_failure import cached_names, loading_failure
from attnchain_evals.bench.model_loading import load
from attnchain_interp import AttentionError

RESPONSE: Any = SimpleNamespace(headers={}, request=SimpleNamespace(headers={}))


def raised_from(*errors: BaseException) -> BaseException:
    """The first error, raised because of the second, and so on."""
    for error, cause in pairwise(errors):
        error.__cause__ = cause
    return errors[0]


UNREACHED = "could not reach the hub, and 'm' is neither in its cache nor a folder"
CASES: list[tuple[BaseException, str]] = [
    (raised_from(OSError("x"), LocalEntryNotFoundError("x"), ConnectionError("x")), UNREACHED),
    (URLError(OSError("network is unreachable")), UNREACHED),
    (TimeoutError("x"), UNREACHED),
    (raised_from(OSError("no identifier"), RepositoryNotFoundError("x", response=RESPONSE)), "knows no model 'm'"),
    (raised_from(OSError("x"), HFValidationError("repo id")), "knows no model 'm'"),
    (RuntimeError("Unknown model (m)"), "knows no model 'm'"),
    (raised_from(OSError("x"), GatedRepoError("x", response=RESPONSE)), "gives it only to those who asked"),
    (HTTPError("https://hub.invalid", 503, "busy", {}, None), "could not load 'm': HTTP Error 503: busy"),  # type: ignore[arg-type]
    (ValueError("no model_type in config.json"), "could not load 'm': no model_type"),
]


@pytest.mark.parametrize(("error", "message"), CASES)
def test_the_reason_is_named(error: BaseException, message: str) -> None:
    assert message in str(loading_failure("transformers", "m", error, ["m"]))


def test_a_near_name_is_offered_but_not_the_name_itself() -> None:
    error = raised_from(OSError("x"), ConnectionError("x"))
    assert "Did you mean 'org/model-16'?" in str(loading_failure("transformers", "org/model16", error, ["org/model-16"]))
    assert "Did you mean" not in str(loading_failure("transformers", "org/model-16", error, ["org/model-16", "org/model-8"]))


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AttentionError, match="there is no folder .*none"):
        load(f"hf:{tmp_path / 'none'}")
    with pytest.raises(AttentionError, match="transformers could not load"):
        load(f"hf:{tmp_path}")


def test_names_in_the_cache(tmp_path: Path) -> None:
    assert cached_names(tmp_path / "none") == []
    snapshot = tmp_path / "models--org--model" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    assert cached_names(tmp_path) == ["org/model"]
