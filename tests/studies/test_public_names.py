"""Public names, by the shortest way that leads to them."""

from importlib import import_module

from studies.public_names import public_names


def test_names_lead_to_objects() -> None:
    for dotted, name in public_names().items():
        module, _, last = dotted.rpartition(".")
        assert last == name
        assert hasattr(import_module(module), name), dotted


def test_a_name_of_the_package_is_not_repeated_under_its_room() -> None:
    found = public_names()
    assert "attnchain_interp.Chain" in found
    assert "attnchain_interp.chain.Chain" not in found
    assert "attnchain_interp.chain.as_chain" in found
    assert "attnchain_interp.diffusion.concept_map" in found
    assert "attnchain_interp.checks.check_one_of" in found
    assert {"attnchain_evals.benchmark", "attnchain_adapters.tracing.token_rank"} <= set(found)
