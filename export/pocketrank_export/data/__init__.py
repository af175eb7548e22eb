"""What a ranker is trained and measured on: readers, replay, splits, and checks that nothing leaks."""
