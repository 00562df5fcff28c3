"""The report of a selection: one HTML file that opens anywhere and asks no network."""
