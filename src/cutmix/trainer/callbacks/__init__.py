"""What watches a run, of our own."""
