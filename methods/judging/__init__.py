"""Asking a judge about rows: questions, prompts, parsers."""
