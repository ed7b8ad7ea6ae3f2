"""Media: fetched in one place, opened with limits, and cut into what the towers take."""
