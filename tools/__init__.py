"""Tools for developers: they write workflows, blueprints, locales, and the pictures of the documents.

Run them from the root of the checkout: `python3 -m tools.make_workflows`. Users do not need them.
"""
