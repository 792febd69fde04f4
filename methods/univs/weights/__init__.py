"""Loading of UniVS weights in all released layouts."""
