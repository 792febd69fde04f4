"""Image encoders: maps of a frame at strides 16, 8 and 4."""
