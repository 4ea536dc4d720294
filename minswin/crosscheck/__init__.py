"""Cross-check: which tensor of another implementation is the first wrong one, and why."""
