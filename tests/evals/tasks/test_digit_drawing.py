from __future__ import annotations

from attnchain_evals.tasks.digit_drawing import glyphs


def test_no_scan_is_in_two_splits() -> None:
    splits = [{scan.numpy().tobytes() for scan in glyphs(split)[0]} for split in ("train", "validation", "test")]
    assert [len(glyphs(split)[0]) for split in ("train", "validation", "test")] == [1097, 300, 400]
    assert not splits[0] & splits[1]
    assert not splits[0] & splits[2]
    assert not splits[1] & splits[2]
