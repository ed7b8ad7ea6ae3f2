"""Conversations and running text that bundles are calibrated and certified with: the files, and what reads them."""
