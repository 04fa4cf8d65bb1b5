"""
How fast is the whole job, beside routers that only route? `make bench` answers; README.md states the method.

`candidates/` says how each one is started, `workloads.py` what is asked of it, `rounds.py` in which order; `figures.py`
makes medians and ratios, `report.py` and `chart.py` show them. The load comes from two C programs in `tools/`.
"""
