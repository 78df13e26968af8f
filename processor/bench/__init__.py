"""A load test: requests at a stated pace through real workers, and what became of each.

``run.run`` takes settings and a ``plan.Plan`` and returns a ``result.Result``; the command
``speechmill bench`` shows it. Knows the pipeline from outside only: what it sends, the completions
that it reads, and the metrics that workers serve.
"""
