"""The commands of `edge`, a module each; they alone print: results to stdout, everything else to stderr."""
