"""Where a run begins: with the weights of an earlier training, and a head of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from minswin.training.checkpoints import find_trained
from minswin.training.classifiers import Statistics, statistics
from minswin.weights.load import Tell, in_our_names, load_source
from minswin.weights.recognise import fitting
from minswin.weights.state import read_source


def begin_with(model: Any, weights: Path | str, *, tell: Tell | None = None) -> Statistics:
    """Put the weights of an earlier training into a model, all but its head, which stays random.

    weights: a name of `pretrained()`, the folder of a run, or a file of any known implementation;
    what depends on the size of the images is resized as the original does.
    Gives mean and standard deviation that its images were normalised by: the new ones need the same
    """
    source = read_source(find_trained(weights))
    load_source(model, source, head="fresh", resize="original", tell=tell)
    learnt = source.training_data
    if learnt is not None:
        return tuple(learnt["mean"]), tuple(learnt["std"])
    return statistics(model.name, in_our_names(source).dialect)


def model_of(weights: Path | str, named: str | None = None) -> tuple[str, dict[str, Any] | None]:
    """The name of the model that these weights are of, and what else a run set of it.

    named: a model that is wanted; another than the run's has nothing of its settings.
    An error where none is named and several fit, or none.
    """
    source = read_source(find_trained(weights))
    if source.trained_model is not None and named in (None, source.trained_model[0]):
        return source.trained_model
    if named:
        return named, None
    names = fitting(in_our_names(source))
    if len(names) != 1:
        fits = f"fits {', '.join(names)}" if names else "fits no named model"
        raise ValueError(f"train: {weights} {fits}; say which it is with --model")
    return names[0], None
