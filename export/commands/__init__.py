"""The commands of `edge-export` beside the export itself, a module each; results go to stdout."""
