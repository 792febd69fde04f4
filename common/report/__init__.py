"""One self-contained page that shows what runs have in them."""
