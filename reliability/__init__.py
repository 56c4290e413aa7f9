"""What a run must survive, tried with real processes and real signals: ``python -m reliability``."""
