"""Several replicas behind one address, by the files of `examples/team/`: `python -m tests.team --calls 10000`."""
