"""The composition root: definitions, jobs, recipes, the command line and the generated pages."""
