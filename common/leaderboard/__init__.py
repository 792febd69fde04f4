"""Records and published numbers, made into tables."""
