"""A PyTorch module of one's own as a bundle that ranks: ``python -m examples.bring_your_own_model``."""
