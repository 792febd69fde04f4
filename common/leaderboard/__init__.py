"""Tables of records and of published numbers, and the plans that make the records."""
