"""ResNet: our names are torchvision's."""

from __future__ import annotations

from minswin.models.resnet import ResNet
from minswin.weights.families.family import Facts, Family, Settings, State, count

NAMES = """
    conv1
    bn1
    layer{i+1}.{j}.*
        conv{k+1}
        bn{k+1}
    fc
"""

TORCHVISION = """
    layer{i}.{j}.downsample.{k}
"""

TRANSFORMERS = """
    conv1                         resnet.embedder.embedder.convolution
    bn1                           resnet.embedder.embedder.normalization
    layer{i+1}.{j}.*              resnet.encoder.stages.{i}.layers.{j}.*
        conv{k+1}                     layer.{k}.convolution
        bn{k+1}                       layer.{k}.normalization
        downsample.0                  shortcut.convolution
        downsample.1                  shortcut.normalization
    fc                            classifier.1
"""


def _settings(weights: State, _: Facts) -> Settings:
    width, _, side, _ = weights["conv1.weight"].shape
    stages = count(weights, r"layer(\d+)\.") - 1
    depths = [count(weights, rf"layer{i + 1}\.(\d+)\.") for i in range(stages)]
    settings: Settings = {"width": width, "stem": "imagenet" if side == 7 else "cifar"}
    settings["depths"] = tuple(depths)
    settings["block"] = "bottleneck" if "layer1.0.conv3.weight" in weights else "basic"
    return settings


RESNET = Family(
    paper="ResNet",
    model=ResNet,
    mark=r"layer1\.0\.conv1\.weight",
    names=NAMES,
    own=TORCHVISION,
    tables={"torchvision": TORCHVISION, "timm": TORCHVISION, "transformers": TRANSFORMERS},
    settings=_settings,
)
