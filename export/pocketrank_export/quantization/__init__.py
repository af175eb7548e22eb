"""Smaller numbers for a converted ranker, by recipes whose names say what they do."""
