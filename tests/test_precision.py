"""Weights stay float32; mixed precision is autocast."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from common.errors import InputError
from common.nn.sam2 import SAM2
from common.precision import Float32Module, autocast

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


class Small(Float32Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 3)


CONVERSIONS = {
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "double": lambda module: module.double(),
    "to": lambda module: module.to(torch.float16),
    "to device": lambda module: module.to("cpu", torch.bfloat16),
    "type": lambda module: module.type(torch.float16),
}


@pytest.mark.parametrize("conversion", CONVERSIONS)
def test_other_weights_are_refused(conversion: str) -> None:
    module = Small()
    with pytest.raises(
        InputError, match=r"^Small cannot be converted to \w+: weights stay float32; .*bf16-mixed"
    ) as error:
        CONVERSIONS[conversion](module)
    assert "\n" not in str(error.value)
    assert module.layer.weight.dtype == torch.float32


def test_moves_are_not() -> None:
    module = Small().float().to("cpu").to(torch.float32).to("meta").to_empty(device="cpu").share_memory()
    assert module.layer.weight.device == CPU


def test_the_network_of_the_predictors() -> None:
    with pytest.raises(InputError, match="SAM2 cannot be converted to bfloat16"):
        SAM2("nano", "2.1", 64).bfloat16()


@pytest.mark.parametrize(
    ("precision", "device", "dtype"),
    [
        ("32-true", CPU, None),
        (32, CPU, None),
        ("bf16-mixed", CPU, torch.bfloat16),
        ("bf16", CPU, torch.bfloat16),
        ("16-mixed", CPU, torch.bfloat16),
        (16, CPU, torch.bfloat16),
    ],
)
def test_what_is_computed(precision: str | int, device: torch.device, dtype: torch.dtype | None) -> None:
    with autocast(precision, device):
        assert torch.is_autocast_enabled("cpu") == (dtype is not None)
        assert Small().layer(torch.ones(1, 2)).dtype == (dtype or torch.float32)
    assert not torch.is_autocast_enabled("cpu")


@pytest.mark.filterwarnings("ignore:CUDA is not available")
def test_float16_is_for_gpus() -> None:
    assert autocast("16-mixed", CUDA).fast_dtype == torch.float16
    assert autocast("bf16-mixed", CUDA).fast_dtype == torch.bfloat16


def test_what_is_not_known() -> None:
    for precision in ("bf16-true", "16-true", "64-true", "64"):
        with pytest.raises(InputError, match=f"^precision {precision}: weights stay float32"):
            autocast(precision, CPU)
    with pytest.raises(InputError, match=r"^precision fp8: choose one of 32-true, bf16-mixed, 16-mixed$"):
        autocast("fp8", CPU)
