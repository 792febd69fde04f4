"""One self-contained HTML page about runs: tables, plots and frames."""
