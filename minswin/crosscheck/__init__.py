"""Cross-check: which tensor of another implementation is the first wrong one, and why."""

__all__ = ["adapter", "compare", "conform", "diagnose", "folder", "recipe", "trace"]
