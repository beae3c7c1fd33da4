"""The steps of a run, in the order of the flow, a file each."""
