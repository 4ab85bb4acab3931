"""Linear layers in int8 against the same arithmetic written out, and against float32."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from encoders.models.device import DeviceUnavailable, choose
from encoders.models.int8 import Int8Linear, quantise


def reference(linear: nn.Linear, row: torch.Tensor) -> torch.Tensor:
    """One row, one output at a time."""
    in_scale = max(float(value) for value in row.abs()) / 127
    codes = [round(float(value) / in_scale) for value in row]
    outputs = []
    for weights, bias in zip(linear.weight, linear.bias, strict=True):
        scale = max(float(value) for value in weights.abs()) / 127
        total = sum(code * round(float(weight) / scale) for code, weight in zip(codes, weights, strict=True))
        outputs.append(total * in_scale * scale + float(bias))
    return torch.tensor(outputs)


@torch.no_grad()
def test_it_is_the_arithmetic_written_out_and_near_float32() -> None:
    torch.manual_seed(3)
    linear = nn.Linear(48, 80)
    rows = torch.randn(2, 5, 48) * torch.logspace(-3, 3, 5)[:, None]  # one row's size is not another's digits
    got = Int8Linear(linear)(rows)
    assert got.shape == (2, 5, 80)
    for row, outputs in zip(rows.view(-1, 48), got.view(-1, 80), strict=True):
        torch.testing.assert_close(outputs, reference(linear, row), rtol=1e-4, atol=1e-5 * float(row.abs().max()))
        exact = linear(row)
        assert (outputs - exact).norm() <= 0.02 * exact.norm()
    assert torch.equal(Int8Linear(linear)(torch.zeros(1, 48)), linear.bias[None])


def test_small_outputs_stay_exact() -> None:
    model = nn.Sequential(nn.Linear(48, 80), nn.GELU(), nn.Linear(80, 1))
    quantise(model)
    assert [type(layer) for layer in model] == [Int8Linear, nn.GELU, nn.Linear]


def test_it_is_for_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    choose.cache_clear()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(DeviceUnavailable, match="expected it on a CPU"):
        choose("auto", "int8")
    assert choose("cpu", "int8").dtype == "int8"
    choose.cache_clear()
