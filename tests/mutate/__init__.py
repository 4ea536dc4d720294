"""Which mistakes would no test notice? Small changes of the sources at random, one at a time.

python -m tests.mutate --count 500 --seed 1
"""
