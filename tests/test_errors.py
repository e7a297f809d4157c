from attnchain_interp import AttentionError


def test_the_fix_stands_on_a_line_of_its_own() -> None:
    assert str(AttentionError("steps is 0.5.", "Pass steps=1.")) == "steps is 0.5.\nPass steps=1."
    assert str(AttentionError("steps is 0.5.")) == "steps is 0.5."
    assert isinstance(AttentionError(""), ValueError)
