"""The CPU as a CUDA device for the real CuPy: `enter()` before CuPy is imported. See README.md."""

from host_cuda.entry import Missing, counted, enter, entered

__all__ = ["Missing", "counted", "enter", "entered"]
