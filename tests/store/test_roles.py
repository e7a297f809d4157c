"""Names of roles."""

import pytest

import attnchain_interp as ac


def test_roles_have_lower_case_names() -> None:
    assert ac.Role.named("patch") is ac.Role.PATCH
    with pytest.raises(ac.AttentionError, match="(?s)'patches' is not a token role.*'class', 'register', 'patch'"):
        ac.Role.named("patches")
