"""Bundles as a person looks at them: read from their manifests and certificates, drawn as one HTML page."""
