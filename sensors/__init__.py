"""What watches: `landing` for new data, `selection` for subsets that must be chosen again. Sensors only discover;
they compute nothing."""
