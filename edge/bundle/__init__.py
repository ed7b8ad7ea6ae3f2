"""A bundle on disk: its manifest, its files, where bundles are installed, and the checks before anything is loaded."""
