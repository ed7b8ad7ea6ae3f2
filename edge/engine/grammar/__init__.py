"""Constrained output: JSON schemas and grammars, and the tokens that keep an answer valid."""
