"""What the assets work with: the lake, the models, the judge, the run's settings.

Here belongs everything that holds state or reaches outside (files, models, servers), as Dagster resources that load
nothing before it is needed and can be replaced by configuration. What is computed with them is said in `methods`, and
when in `assets`. Import from the modules: this one stays empty, so that asking for the lake does not ask for a model.
"""
