"""The science: pure functions over plain data. Nothing in here knows of the pipeline that calls it."""
