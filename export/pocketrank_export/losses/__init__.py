"""Losses over lists of candidates, from labels or from a teacher's scores."""
