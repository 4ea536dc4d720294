"""ResNet: the convolutional network that the Transformers are compared with.    He et al. 2016

The two kinds of block, the model. The shapes of ResNet-50:

    image 3×224×224 → 64×112×112 → 64×56×56 → 256×56×56 → 512×28×28 → 1024×14×14 → 2048×7×7
    → 2048 → classes

Names are those of torchvision. Maps are (B, C, H, W).
"""

from __future__ import annotations

from functools import partial

import numpy as np

from minswin import ops
from minswin.arguments import Pair, Seed, one_of, pair, stages, whole
from minswin.arrays import Array
from minswin.autograd import Tensor
from minswin.layers import BatchNorm2d, DropPath, Filters, Layer, Linear
from minswin.layers.parameters import Dtype, Init
from minswin.models.base import Learnt, Model, Row, as_images, check_rates, drop_path_rates

STEMS = ("imagenet", "cifar")
SHORTCUTS = ("projection", "padding")


class Block(Layer):
    """relu(F(x) + shortcut(x)), F given by the two classes below.                    Eq. (1), (2)

    The shortcut is x itself where F keeps the shape. Elsewhere it is a 1×1 convolution and a batch
    norm, `downsample` (the paper's option B, "projection"); or, without parameters, every second
    element of each row and column, then zeros for the new channels (option A, "padding").
    """

    expansion: int  # channels that a block gives, for each of its own

    def __init__(
        self,
        inputs: int,
        channels: int,
        *,
        stride: int,
        shortcut: str,
        drop_path_rate: float,
        init: Init,
    ) -> None:
        self.stride = stride
        self._define(inputs, channels, stride, init)
        outputs = channels * self.expansion
        self.downsample: list[Layer] = []
        if shortcut == "projection" and (stride > 1 or inputs != outputs):
            project = Filters(inputs, outputs, 1, stride=stride, init=init)
            self.downsample = [project, BatchNorm2d(outputs, init=init)]
        self.drop_path = DropPath(drop_path_rate, init=init)

    def _define(self, inputs: int, channels: int, stride: int, init: Init) -> None:
        raise NotImplementedError(f"{type(self).__name__} does not define its filters")

    def residual(self, x: Tensor) -> Tensor:
        """F(x)."""
        raise NotImplementedError(f"{type(self).__name__} does not define residual")

    def __call__(self, x: Tensor) -> Tensor:
        y = self.drop_path(self.residual(x))
        return ops.relu(y + self.shortcut(x, y.shape[1]))

    def shortcut(self, x: Tensor, channels: int) -> Tensor:
        for layer in self.downsample:
            x = layer(x)
        if self.downsample or (self.stride == 1 and x.shape[1] == channels):
            return x
        x = x[:, :, :: self.stride, :: self.stride]
        missing = channels - x.shape[1]
        return ops.pad(x, width=((0, 0), (0, missing), (0, 0), (0, 0)))

    def macs(self, grid: Pair) -> tuple[int, Pair]:
        """Products of its filters on a map of this size, and the size of the map that it gives."""
        total = sum(layer.macs(grid) for layer in self.downsample if isinstance(layer, Filters))
        for _, layer in self.children():
            if isinstance(layer, Filters) and layer not in self.downsample:
                total, grid = total + layer.macs(grid), layer.grid(grid)
        return total, grid


class BasicBlock(Block):
    """Two 3×3 convolutions.                                                        Figure 5, left

    Takes (B, C, H, W)        Gives (B, channels, ⌈H/stride⌉, ⌈W/stride⌉)
    """

    expansion = 1

    def _define(self, inputs: int, channels: int, stride: int, init: Init) -> None:
        self.conv1 = Filters(inputs, channels, 3, stride=stride, init=init)
        self.bn1 = BatchNorm2d(channels, init=init)
        self.conv2 = Filters(channels, channels, 3, init=init)
        self.bn2 = BatchNorm2d(channels, init=init)

    def residual(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn1(self.conv1(x)))  # (B, channels, H/stride, W/stride)
        return self.bn2(self.conv2(x))


class Bottleneck(Block):
    """1×1 to fewer channels, 3×3, 1×1 to four times as many.                      Figure 5, right

    Takes (B, C, H, W)        Gives (B, 4 channels, ⌈H/stride⌉, ⌈W/stride⌉)
    The stride is that of the 3×3 convolution, as in torchvision ("v1.5"); in the paper it is that
    of the first one, which costs less and throws three of four elements away unseen.
    """

    expansion = 4

    def _define(self, inputs: int, channels: int, stride: int, init: Init) -> None:
        self.conv1 = Filters(inputs, channels, 1, init=init)
        self.bn1 = BatchNorm2d(channels, init=init)
        self.conv2 = Filters(channels, channels, 3, stride=stride, init=init)
        self.bn2 = BatchNorm2d(channels, init=init)
        self.conv3 = Filters(channels, 4 * channels, 1, init=init)
        self.bn3 = BatchNorm2d(4 * channels, init=init)

    def residual(self, x: Tensor) -> Tensor:
        x = ops.relu(self.bn1(self.conv1(x)))  # (B, channels, H, W)
        x = ops.relu(self.bn2(self.conv2(x)))  # (B, channels, H/stride, W/stride)
        return self.bn3(self.conv3(x))  # (B, 4 channels, H/stride, W/stride)


BLOCKS: dict[str, type[Block]] = {"basic": BasicBlock, "bottleneck": Bottleneck}


class ResNet(Model):
    """The whole model: images (B, 3, H, W) in, logits (B, num_classes) out.

    depths: blocks of each stage; each stage but the first halves the map and doubles the channels
    width: channels of the first stage (a quarter of those that its "bottleneck" blocks give)
    stem: "imagenet", 7×7 filters with stride 2 and a 3×3 maximum with stride 2; "cifar", 3×3
    filters, and the map keeps its size (§4.2)   block, shortcut: see the classes above
    Images of other sizes go through. Batch norm looks at the whole batch: train in one thread.
    """

    name = family = "resnet"
    head_names = ("fc",)

    def __init__(
        self,
        *,
        img_size: int | Pair = 224,
        depths: tuple[int, ...] = (2, 2, 2, 2),
        width: int = 64,
        block: str = "basic",
        stem: str = "imagenet",
        shortcut: str = "projection",
        drop_path_rate: float = 0.0,
        num_classes: int = 1000,
        rng: Seed = None,
        dtype: Dtype = np.float32,
    ) -> None:
        who = type(self).__name__
        init = self._begin(rng, dtype, img_size)
        check_rates(who, drop_path_rate=drop_path_rate)
        self.depths, width = stages(who, "depths", depths), whole(who, "width", width)
        self.stem, kind = one_of(who, "stem", stem, STEMS), one_of(who, "block", block, (*BLOCKS,))
        one_of(who, "shortcut", shortcut, SHORTCUTS)
        side, stride = (7, 2) if stem == "imagenet" else (3, 1)
        self.conv1 = Filters(3, width, side, stride=stride, init=init)
        self.bn1 = BatchNorm2d(width, init=init)
        rates = iter(drop_path_rates(drop_path_rate, sum(self.depths)))
        inputs = width
        for i, depth in enumerate(self.depths):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                block_of = partial(BLOCKS[kind], stride=stride, shortcut=shortcut, init=init)
                blocks.append(block_of(inputs, width * 2**i, drop_path_rate=next(rates)))
                inputs = width * 2**i * BLOCKS[kind].expansion
            setattr(self, f"layer{i + 1}", blocks)
        self.fc = Linear(inputs, whole(who, "num_classes", num_classes), init=init)

    # ── forward ──────────────────────────────────────────────────────────────────────────────────

    def __call__(self, x: Tensor | Array) -> Tensor:
        """Images (B, 3, H, W) to logits (B, num_classes)."""
        *_, x = self._maps(x)  # (B, C, H, W)
        return self.fc(x.mean(axis=(2, 3)))  # (B, num_classes)

    def feature_maps(self, x: Tensor | Array) -> list[Tensor]:
        """Images (B, 3, H, W) to the map (B, H', W', C) of every stage."""
        return [y.transpose(0, 2, 3, 1) for y in self._maps(x)]

    @property
    def first_stride(self) -> Pair:
        return (1, 1) if self.stem == "cifar" else (4, 4)

    def _maps(self, x: Tensor | Array) -> list[Tensor]:
        """The map (B, C, H, W) of every stage."""
        x = as_images(type(self).__name__, x, 3, self.fc.weight.dtype)
        x = ops.relu(self.bn1(self.conv1(x)))  # (B, width, H/2, W/2)
        if self.stem == "imagenet":
            x = ops.max_pool2d(x, kernel=(3, 3), stride=(2, 2), padding=(1, 1))  # (…, H/4, W/4)
        maps = []
        for blocks in self.stages():
            for block in blocks:
                x = block(x)
            maps.append(x)
        return maps

    def stages(self) -> list[list[Block]]:
        """The blocks of every stage."""
        return [getattr(self, f"layer{i + 1}") for i in range(len(self.depths))]

    # ── what it is made of ───────────────────────────────────────────────────────────────────────

    def summary(self, img_size: int | Pair | None = None) -> list[Row]:
        """One row per step: name, shape, parameters, multiply-adds of one image.

        Counts the products of convolutions and of the head, as published figures do.
        """
        who = type(self).__name__
        size = self.img_size if img_size is None else pair(who, "img_size", img_size)
        grid, (width, *_) = self.conv1.grid(size), self.conv1.weight.shape
        learnt = Learnt()
        rows = [
            Row("image", (*size, 3), 0, 0),
            Row("stem", (*grid, width), learnt(self.conv1, self.bn1), self.conv1.macs(size)),
        ]
        if self.stem == "imagenet":
            grid = -(-grid[0] // 2), -(-grid[1] // 2)
            rows.append(Row("largest of 3×3", (*grid, width), 0, 0))
        for i, blocks in enumerate(self.stages()):
            cost = 0
            for block in blocks:
                macs, grid = block.macs(grid)
                cost += macs
            channels = width * 2**i * block.expansion
            name, count = f"layer{i + 1}: {len(blocks)} blocks", learnt(*blocks)
            rows.append(Row(name, (*grid, channels), count, cost, is_stage=True))
        rows.append(Row("mean", (channels,), 0, 0))
        classes = self.fc.weight.shape[0]
        return [*rows, Row("head", (classes,), learnt(self.fc), self.fc.weight.size)]
