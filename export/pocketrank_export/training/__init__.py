"""Fitting a ranker to slates."""
