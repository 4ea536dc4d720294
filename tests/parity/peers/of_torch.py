"""A ResNet for CIFAR of the layers of torch, put together as the paper says."""

from __future__ import annotations

from typing import Any

from .base import torch
from .of_timm import TimmResNet


class TorchResNet(TimmResNet):
    """torch's layers put together as §4.2 of the paper says, which timm has not."""

    def version(self) -> str:
        return f"torch {torch.__version__}"

    def build(self, settings: dict[str, Any]) -> Any:
        return TorchCifarResNet(**settings).eval()


class TorchCifarResNet(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, depths: Any, width: int, num_classes: int, **_: Any) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(width)
        inputs = width
        for i, depth in enumerate(depths):
            blocks = torch.nn.Sequential()
            for j in range(depth):
                blocks.append(TorchBlock(inputs, width * 2**i, 2 if i and not j else 1))
                inputs = width * 2**i
            self.add_module(f"layer{i + 1}", blocks)
        self.fc = torch.nn.Linear(inputs, num_classes)

    def forward(self, x: Any) -> Any:
        x = self.bn1(self.conv1(x)).relu()
        for name, blocks in self.named_children():
            x = blocks(x) if name.startswith("layer") else x
        return self.fc(torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


class TorchBlock(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = torch.nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = torch.nn.BatchNorm2d(outputs)
        self.conv2 = torch.nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = torch.nn.BatchNorm2d(outputs)
        self.stride, self.missing = stride, outputs - inputs

    def forward(self, x: Any) -> Any:
        y = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        x = torch.nn.functional.max_pool2d(x, 1, self.stride)  # a maximum of one element each
        zeros = x.new_zeros(x.shape[0], self.missing, *x.shape[2:])
        return (y + torch.cat([x, zeros], dim=1)).relu()
