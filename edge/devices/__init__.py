"""Cameras and microphones, and what watches them."""
