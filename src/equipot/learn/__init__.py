"""Active learning: an ensemble explores, what it is unsure of is labelled, and it learns from that."""
