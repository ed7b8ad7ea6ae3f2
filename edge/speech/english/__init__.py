"""English as it is spoken: numbers, units, dates, times and signs as words."""
