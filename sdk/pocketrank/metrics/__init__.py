"""How good a ranking is, how far two agree, who is exposed, and what another one would have been worth."""

from pocketrank.metrics.ranking import Interval, average_precision, bootstrap, err, mrr, ndcg, precision, ranked, recall

__all__ = ["Interval", "average_precision", "bootstrap", "err", "mrr", "ndcg", "precision", "ranked", "recall"]
