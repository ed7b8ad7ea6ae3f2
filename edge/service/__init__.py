"""What systemd has to do with us: units that are installed, their state, and what a running one tells it."""
