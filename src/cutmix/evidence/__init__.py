"""Arms compared over seeds: measured, judged, reported."""
