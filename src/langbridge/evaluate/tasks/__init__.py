"""The task families: one folder each, with its suites as YAML for lm-evaluation-harness, a README, and its documents.

A suite is a YAML file with a `group:` of tasks, one a language. Its documents are made by the family's `load`, and all
have the fields `id` (the same for the same question in every language), `language`, `prompt`, `expected`, `target`.
"""
