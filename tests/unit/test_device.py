from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from encoders import device
from encoders.device import DeviceUnavailable, choose


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    choose.cache_clear()
    yield
    choose.cache_clear()


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("bf16_ms", "dtype"), [(1.0, "bfloat16"), (2.0, "bfloat16"), (2.1, "float32"), (9.0, "float32")]
)
def test_auto_on_a_cpu_takes_what_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, bf16_ms: float, dtype: str
) -> None:
    monkeypatch.setattr(device, "_probe_ms", lambda: (3.0, bf16_ms))
    placement = choose()
    assert (placement.device, placement.dtype) == ("cpu", dtype)
    assert "3.00 ms in float32" in placement.reason
    assert f"{bf16_ms:.2f} ms in bfloat16" in placement.reason


@pytest.mark.usefixtures("no_cuda")
def test_the_probe_measures_this_machine() -> None:
    placement = choose()
    assert placement.dtype in ("float32", "bfloat16")
    assert "threads" in placement.reason
    assert choose() is placement, "probed again"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_an_explicit_dtype_is_obeyed_without_a_probe(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    monkeypatch.delattr(device, "_probe_ms")
    assert choose("cpu", dtype).dtype == dtype


@pytest.mark.usefixtures("no_cuda")
def test_cuda_that_is_not_there_is_an_error() -> None:
    with pytest.raises(DeviceUnavailable, match=r"got 'cuda'.*set the device to 'auto' or 'cpu'"):
        choose("cuda")


@pytest.mark.parametrize(("has_bf16", "dtype"), [(True, "bfloat16"), (False, "float16")])
def test_auto_on_cuda(monkeypatch: pytest.MonkeyPatch, has_bf16: bool, dtype: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a card")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: has_bf16)
    assert (choose().device, choose().dtype) == ("cuda", dtype)
    assert choose("auto", "float32").dtype == "float32"
    assert choose("cpu", "float32").device == "cpu"


@pytest.mark.parametrize("given", [("tpu", "auto"), ("cpu", "int4")])
def test_unknown_words_are_errors(given: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="expected one of auto"):
        choose(*given)
