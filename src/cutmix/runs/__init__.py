"""A run: from settings to a run folder."""
