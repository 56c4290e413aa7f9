"""CutMix in every training loop."""
