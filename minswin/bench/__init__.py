"""`minswin bench`: how fast this code is, as ratios to PyTorch measured in the same minutes."""
