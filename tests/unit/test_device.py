from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from encoders.models import device
from encoders.models.device import DeviceUnavailable, choose


@pytest.fixture(autouse=True)
def _fresh_cache() -> Iterator[None]:
    choose.cache_clear()
    yield
    choose.cache_clear()


@pytest.fixture
def no_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


X86 = "processor : 0 vendor_id : GenuineIntel flags : fpu sse2 avx2 avx512f"
AMD = X86.replace("GenuineIntel", "AuthenticAMD")
ARM = "processor : 0 Features : fp asimd crc32"


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize(
    ("cpuinfo", "dtype"),
    [
        (X86, "float32"),
        (f"{X86} avx512_bf16 amx_bf16 amx_tile", "bfloat16"),
        (AMD, "float32"),
        (f"{AMD} avx512_bf16", "bfloat16"),
        (ARM, "float32"),
    ],
)
def test_auto_on_a_cpu_goes_by_its_flags_and_measures_nothing(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str, dtype: str
) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: frozenset(cpuinfo.split()))
    monkeypatch.delattr(device, "_probe_ms")
    assert choose().dtype == dtype
    assert "AVX" in choose().reason or "threads" in choose().reason


@pytest.mark.usefixtures("no_cuda")
@pytest.mark.parametrize("cpuinfo", [f"{X86} avx512_bf16", f"{ARM} bf16", "", "isa : rv64imafdc"])
@pytest.mark.parametrize(
    ("bf16_ms", "dtype"), [(1.0, "bfloat16"), (2.0, "bfloat16"), (2.1, "float32"), (9.0, "float32")]
)
def test_where_flags_do_not_say_auto_takes_what_is_clearly_faster(
    monkeypatch: pytest.MonkeyPatch, cpuinfo: str, bf16_ms: float, dtype: str
) -> None:
    monkeypatch.setattr(device, "_cpuinfo", lambda: frozenset(cpuinfo.split()))
    monkeypatch.setattr(device, "_probe_ms", lambda: (3.0, bf16_ms))
    placement = choose()
    assert (placement.device, placement.dtype) == ("cpu", dtype)
    assert "3.00 ms in float32" in placement.reason
    assert f"{bf16_ms:.2f} ms in bfloat16" in placement.reason


@pytest.mark.usefixtures("no_cuda")
def test_the_probe_measures_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "_cpuinfo", frozenset)
    placement = choose()
    assert placement.dtype in ("float32", "bfloat16")
    assert "threads" in placement.reason
    assert choose() is placement, "probed again"


@pytest.mark.usefixtures("no_cuda")
def test_each_start_takes_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    if device._by_flags(device._cpuinfo()) is None:
        pytest.skip("this processor's flags do not say")
    times = iter([(3.0, 1.0), (3.0, 2.9)] * 10)
    monkeypatch.setattr(device, "_probe_ms", lambda: next(times))
    chosen = set()
    for _ in range(20):
        choose.cache_clear()
        chosen.add(choose())
    assert len(chosen) == 1


def test_float16_on_a_cpu_is_obeyed_and_called_slow() -> None:
    assert "several times slower" in choose("cpu", "float16").reason


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
