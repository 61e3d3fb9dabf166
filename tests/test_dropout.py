"""Our dropout against torch's: what it keeps, how it scales, and what passes through it."""

import pytest
import torch

from radscribe.layers.dropout import Dropout


@pytest.mark.parametrize("probability", [0.1, 0.5, 0.875])
def test_share_and_scale(probability: float) -> None:
    torch.manual_seed(0)
    x = torch.ones(7, 1001, 33, requires_grad=True)
    dropped = Dropout(probability)(x)
    dropped.sum().backward()

    kept = dropped != 0
    assert kept.float().mean().item() == pytest.approx(1 - probability, abs=5e-3)
    # Rows and neighbours share no fate beyond chance, although four draws come from one number.
    flat = kept.flatten()
    for distance in (1, 2, 3, 4, 1001 * 33):
        both = (flat[distance:] & flat[:-distance]).float().mean().item()
        assert both == pytest.approx((1 - probability) ** 2, abs=5e-3)
    torch.testing.assert_close(
        dropped[kept], torch.full_like(dropped[kept], 1 / (1 - probability)), rtol=1e-4, atol=0
    )
    assert x.grad is not None
    assert torch.equal(x.grad, dropped.detach())


def test_seeded_and_off_outside_training() -> None:
    x, dropout = torch.randn(5, 3), Dropout(0.5)
    torch.manual_seed(3)
    first = dropout(x)
    torch.manual_seed(3)
    assert torch.equal(first, dropout(x))
    assert torch.equal(dropout.eval()(x), x)


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_all_or_nothing(probability: float) -> None:
    x = torch.randn(5, 3)
    assert torch.equal(Dropout(probability)(x), x * (1 - probability))
