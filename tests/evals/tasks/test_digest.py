import torch

from attnchain_evals.tasks.digest import digest, tensor_bytes


def test_a_digest_is_of_type_shape_and_numbers() -> None:
    numbers = torch.arange(6.0)
    digests = {digest(x) for x in (numbers, numbers.view(2, 3), numbers.double(), numbers + 1)}
    assert len(digests) == 4
    assert digest(numbers.view(2, 3).T.contiguous().T) == digest(numbers.view(2, 3)), "the strides do not count"


def test_the_bytes_of_a_tensor() -> None:
    assert tensor_bytes(torch.tensor([1, 258], dtype=torch.int16)) == b"\x01\x00\x02\x01"
    assert tensor_bytes(torch.ones(2, requires_grad=True, dtype=torch.bfloat16)) == b"\x80\x3f\x80\x3f"
