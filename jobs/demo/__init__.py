"""The demo: a corpus with planted defects, and the story that runs on it (``python -m jobs.demo``)."""
