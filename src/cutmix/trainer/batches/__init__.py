"""Which batches come, in which order, on which rank."""
