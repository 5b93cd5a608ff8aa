"""Training: configuration, data set-up, loss, Lightning module, run folder."""
