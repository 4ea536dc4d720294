"""Training: fit, which is all of it on a page; optimizers; runs that resume bit for bit."""

from typing import TYPE_CHECKING

from minswin import lazy
from minswin.training.checkpoints import load_trained_model, read_checkpoint, save_checkpoint
from minswin.training.ema import WeightAverage
from minswin.training.evaluation import Evaluation, evaluate, predict
from minswin.training.fit import Diverged, fit
from minswin.training.loop import Result, resume, train
from minswin.training.muon import Muon
from minswin.training.optimizers import SGD, AdamW, clip_gradients, decays, warmup_cosine
from minswin.training.settings import RECIPES, Settings, recipe

__all__ = [
    "RECIPES",
    "SGD",
    "AdamW",
    "Diverged",
    "Evaluation",
    "Muon",
    "Result",
    "Settings",
    "WeightAverage",
    "clip_gradients",
    "decays",
    "evaluate",
    "fit",
    "load_trained_model",
    "predict",
    "read_checkpoint",
    "recipe",
    "resume",
    "save_checkpoint",
    "train",
    "warmup_cosine",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy.submodules(__name__)
