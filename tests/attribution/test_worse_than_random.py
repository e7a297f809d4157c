"""Rollout and GMAR say once that they rank a decoder's tokens worse than chance does."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

import attnchain_interp as ac
from attnchain_interp.attribution import worse_than_random

from . import small_models as small


@pytest.fixture(autouse=True)
def untold(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worse_than_random, "_told", set())


@pytest.mark.parametrize("build", [ac.Rollout, ac.GMAR])
def test_it_is_said_once_in_decoders_where_the_user_calls(build: Any) -> None:
    model = small.llama()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(2):
            build(model).attribute(small.ids(), (6, 8), output="tokens")
    said = [warning for warning in seen if "worse than a random order" in str(warning.message)]
    assert [warning.filename for warning in said] == [__file__]
    assert str(said[0].message).startswith(f"{build.__name__} ranks the tokens of a decoder")


def test_other_models_and_other_methods_say_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for build in (ac.Rollout, ac.GMAR):
            build(small.vit()).attribute(small.images(), 1, output="tokens")
            build(small.bert()).attribute(small.ids(), 1, output="tokens")
        ac.TokenRank(small.llama()).attribute(small.ids(), output="tokens")
        ac.Rollout(small.llama(), residual="depth").attribute(small.ids(), output="tokens")
        ac.Rollout(small.llama(), maps="alti").attribute(small.ids(), output="tokens")
