from __future__ import annotations

from pathlib import Path

import pytest

from attnchain_evals.weights.digest import check_sha256, sha256
from attnchain_interp import AttentionError

OF_ABC = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # FIPS 180-2, B.1


def test_the_digest_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256(tmp_path / "abc") == OF_ABC
    check_sha256(tmp_path / "abc", OF_ABC, "")


def test_another_digest_is_refused_with_both(tmp_path: Path) -> None:
    (tmp_path / "abd").write_bytes(b"abd")
    with pytest.raises(AttentionError, match=f"abd has the sha256 a52d159f.*; {OF_ABC} is wanted.\nTry again."):
        check_sha256(tmp_path / "abd", OF_ABC, "Try again.")
