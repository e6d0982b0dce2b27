"""Many steps in one program: the data, the executions, the callbacks."""
