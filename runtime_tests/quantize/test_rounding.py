"""GPTQ rounds weights to the grid with less error than rounding each to its nearest."""

import torch


def test_gptq_beats_rounding_to_nearest_on_smooth_inputs() -> None:
    from edgepass.quantize.rounding import gptq

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(512, 63, generator=generator, dtype=torch.float64).cumsum(1)
    weight = torch.randn(5, 63, generator=generator)
    rounded = gptq(weight, x.T @ x)
    step = weight.abs().amax(1, keepdim=True) / 127
    nearest = (weight / step).round() * step
    levels = rounded / step
    assert torch.allclose(levels, levels.round(), atol=1e-3), "the weights lie on the int8 grid"
    assert torch.equal(levels.abs().amax(1).round(), torch.full((5,), 127.0)), "and a second rounding keeps it"
    error = [float(((w - weight).double() @ x.T).square().mean()) for w in (rounded, nearest)]
    assert error[0] < 0.2 * error[1]
