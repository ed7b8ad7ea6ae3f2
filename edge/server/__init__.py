"""The interface over HTTP: routes, limits, streams, and the page."""
