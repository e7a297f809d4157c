import torch

from attnchain_evals.tasks.textured_digits import TexturedDigits
from studies.diffusion.digit_classifier import trained_digit_classifier


def test_the_classifier_reads_digits_of_validation_images() -> None:
    batch = next(TexturedDigits("validation", 128, seed=9).batches(128))
    with torch.no_grad():
        right = trained_digit_classifier()(batch.image).argmax(1) == batch.label
    assert float(right.float().mean()) > 0.93  # 0.979 by the training command
