"""No certified |λ₂| is off by more than the tolerance. The oracles are exact, or in multiple precision."""

import mpmath
import numpy as np
import pytest

from attnchain_interp.chain import functionals
from studies import certified_chains
from studies.certified_chains import DIGITS, FAMILIES, TOLERANCE, found, main, moduli


@pytest.mark.parametrize("name", FAMILIES)
def test_certified_means_right(name: str) -> None:
    family = found(name, {"softmax": 2, "companion": 4}.get(name, 10), seed=1)  # mpmath takes seconds for these two
    assert family.worst <= TOLERANCE
    assert family.certified == 0 if name == "Jordan block" else family.certified >= 2


def test_eigenvalues_at_which_mpmath_stalls_are_found_with_more_digits() -> None:
    rows = [[1024, 0, 0, 0, 0, 0], [39, 2, 0, 2, 981, 0], [738, 0, 0, 0, 286, 0], [0, 0, 0, 1024, 0, 0]]
    P = np.array([*rows, [0, 0, 0, 1019, 5, 0], [0, 0, 1024, 0, 0, 0]]) / 1024
    with mpmath.workdps(DIGITS):
        with pytest.raises(RuntimeError, match="failed to converge"):
            mpmath.eig(mpmath.matrix(P.tolist()))
        assert np.allclose(np.array(moduli(P), dtype=float) * 1024, [1024, 1024, 5, 2, 0, 0], atol=1e-12)


def test_the_command_fails_where_a_certified_value_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["certified_chains", "--chains", "40"])
    monkeypatch.setattr(certified_chains, "FAMILIES", {name: FAMILIES[name] for name in ("circulant", "blocks")})
    assert main() == 0
    assert "circulant" in capsys.readouterr().out
    monkeypatch.setattr(certified_chains, "TOLERANCE", -1)
    monkeypatch.setattr(certified_chains.ac, "mixing", lambda P, tolerance: functionals.mixing(P))
    assert main() == 1
