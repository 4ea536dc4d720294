"""The page of `minswin explain`: one file that needs nothing else."""
