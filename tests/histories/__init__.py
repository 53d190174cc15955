"""Random histories of agents, faults, restarts and clocks, each checked against what VPS.org really did.

`python -m tests.histories --count 10000 --kills 200` runs many; `test_histories.py` runs some in the suite.
"""
