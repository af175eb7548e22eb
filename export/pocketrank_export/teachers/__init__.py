"""Rankers that are too large, or not made, for a device: what a student learns from."""
