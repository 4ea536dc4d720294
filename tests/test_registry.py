"""Every named model: its size, and the settings that a size does not show."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import minswin
from minswin import create_model, list_models
from minswin.models.blank import BLANK
from minswin.models.registry import CLASSES, MODELS, size_of

# name: parameters, multiply-adds, heads, drop path rate; None is the default of the constructor.
# tests/parity counts the published ones in timm's models.
TABLE: dict[str, tuple[int, int, Any, Any]] = {
    "swin_tiny": (28_288_354, 4_494_405_120, (3, 6, 12, 24), 0.2),
    "swin_small": (49_606_258, 8_746_520_064, (3, 6, 12, 24), 0.3),
    "swin_base": (87_768_224, 15_438_473_216, (4, 8, 16, 32), 0.5),
    "swin_base_384": (87_903_584, 47_105_253_376, (4, 8, 16, 32), 0.5),
    "swin_large": (196_532_476, 34_487_049_216, (6, 12, 24, 48), 0.2),
    "swin_large_384": (196_735_516, 103_952_265_216, (6, 12, 24, 48), 0.2),
    "swin_tiny_c24": (28_306_432, 5_926_041_600, (4, 8, 16, 32), 0.2),
    "swin_cifar_7m": (7_073_188, 241_315_584, (3, 6, 12), 0.1),
    "swin_cifar": (1_492_624, 61_048_704, (3, 6, 12), 0.1),
    "swin_cifar_small": (567_046, 21_021_952, (2, 4, 8), 0.0),
    "swin_cifar_stem": (1_292_308, 52_545_408, (3, 6, 12), 0.0),
    "swin_shapes": (303_532, 7_842_240, (3, 6), 0.0),
    "swinv2_tiny_window8_256": (28_347_154, 5_925_697_536, (3, 6, 12, 24), 0.2),
    "swinv2_tiny_window16_256": (28_347_154, 6_605_174_784, (3, 6, 12, 24), 0.2),
    "swinv2_small_window8_256": (49_728_418, 11_514_869_760, (3, 6, 12, 24), 0.3),
    "swinv2_small_window16_256": (49_728_418, 12_647_331_840, (3, 6, 12, 24), 0.3),
    "swinv2_base_window8_256": (87_918_816, 20_285_661_184, (4, 8, 16, 32), 0.5),
    "swinv2_base_window16_256": (87_918_816, 21_795_610_624, (4, 8, 16, 32), 0.5),
    "swinv2_base_window12_192": (87_918_816, 11_760_898_048, (4, 8, 16, 32), 0.2),
    "swinv2_base_window12to16_192to256": (87_918_816, 21_795_610_624, (4, 8, 16, 32), 0.2),
    "swinv2_base_window12to24_192to384": (87_918_816, 54_748_340_224, (4, 8, 16, 32), 0.2),
    "swinv2_large_window12_192": (196_739_932, 25_964_943_360, (6, 12, 24, 48), 0.2),
    "swinv2_large_window12to16_192to256": (196_739_932, 47_490_920_448, (6, 12, 24, 48), 0.2),
    "swinv2_large_window12to24_192to384": (196_739_932, 115_416_895_488, (6, 12, 24, 48), 0.2),
    "swinv2_cifar": (1_528_528, 61_039_488, (3, 6, 12), 0.1),
    "vit_tiny": (5_717_416, 1_253_683_200, 3, None),
    "vit_small": (22_050_664, 4_598_882_304, 6, None),
    "vit_base": (86_567_656, 17_563_828_224, 12, None),
    "vit_base_32": (88_224_232, 4_409_186_304, 12, None),
    "vit_base_384": (86_859_496, 55_484_350_464, 12, None),
    "vit_base_32_384": (88_297_192, 13_043_564_544, 12, None),
    "vit_large": (304_326_632, 61_554_712_576, 16, None),
    "vit_large_32": (306_535_400, 15_377_539_072, 16, None),
    "vit_large_384": (304_715_752, 191_066_300_416, 16, None),
    "vit_huge": (632_045_800, 167_295_109_120, 16, None),
    "vit_cifar": (2_697_610, 187_716_864, 12, 0.1),
    "vit_cifar_small": (460_906, 33_916_992, 6, 0.1),
    "deit_tiny": (5_717_416, 1_253_683_200, 3, 0.1),
    "deit_small": (22_050_664, 4_598_882_304, 6, 0.1),
    "deit_base": (86_567_656, 17_563_828_224, 12, 0.1),
    "deit_base_384": (86_859_496, 55_484_350_464, 12, 0.1),
    "deit_tiny_distilled": (5_910_800, 1_261_003_776, 3, 0.1),
    "deit_small_distilled": (22_436_432, 4_624_140_288, 6, 0.1),
    "deit_base_distilled": (87_338_192, 17_656_811_520, 12, 0.1),
    "deit_base_distilled_384": (87_630_032, 55_591_342_080, 12, 0.1),
    "deit_cifar_distilled": (2_699_924, 190_825_728, 12, 0.1),
    "tnt_small": (23_768_584, 5_222_529_408, 6, 0.1),
    "tnt_base": (65_428_680, 14_058_506_880, 10, 0.1),
    "tnt_cifar": (2_793_226, 196_798_272, 6, 0.1),
    "resnet18": (11_689_512, 1_814_073_344, None, None),
    "resnet50": (25_557_032, 4_089_184_256, None, None),
    "resnet20": (269_722, 40_551_040, None, None),
    "resnet56": (853_018, 125_485_696, None, None),
    "twins_svt_small": (24_060_776, 2_927_353_344, None, 0.2),
    "twins_svt_base": (56_070_952, 8_562_612_480, (3, 6, 12, 24), 0.3),
    "twins_svt_large": (99_271_400, 15_111_777_280, (4, 8, 16, 32), 0.5),
    "twins_cifar": (1_604_362, 59_988_864, (3, 6, 12), 0.1),
}  # fmt: skip


def test_every_model_is_in_the_table_or_in_the_tests_of_its_file() -> None:
    assert set(TABLE) <= set(list_models())
    for name in set(list_models()) - set(TABLE):
        file = CLASSES[name].__module__.rpartition(".")[2]
        assert f'"{name}"' in Path(__file__).with_name(f"test_{file}.py").read_text("utf-8")


def test_a_model_is_added_in_three_files() -> None:
    """Its own, the registry, and what its weights are called elsewhere: CvT is the example."""
    home = Path(minswin.__file__).parent
    texts = {path: path.read_text("utf-8") for path in home.rglob("*.py")}
    files = {path.relative_to(home).as_posix() for path, text in texts.items() if "CvT" in text}
    assert files == {"models/cvt.py", "models/registry.py", "weights/families/cvt.py"}


@pytest.mark.parametrize("name", TABLE)
def test_a_named_model_has_its_size_and_settings(name: str) -> None:
    model, settings = create_model(name, rng=BLANK), MODELS[name]
    found = model.parameter_count(), model.flops()
    assert (*found, settings.get("num_heads"), settings.get("drop_path_rate")) == TABLE[name]


def test_the_size_of_a_named_model_is_that_of_its_images() -> None:
    for name in ("swin_tiny", "swinv2_tiny_window8_256", "resnet18", "swin_shapes"):
        model = create_model(name, num_classes=2, rng=BLANK)
        assert model.img_size == (size_of(name),) * 2
