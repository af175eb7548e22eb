"""The loop, end to end, on MovieLens-100K: ``python -m examples.movielens``."""
