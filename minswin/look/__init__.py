"""Pictures. Each function draws into matplotlib axes that it is given; files are saved aside."""

__all__ = [
    "attention",
    "canvas",
    "cost",
    "curves",
    "features",
    "masks",
    "planes",
    "positions",
    "receptive",
    "tables",
    "windows",
]
