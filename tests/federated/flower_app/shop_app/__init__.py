"""The two ends of a Flower app."""
