"""The metrics by family: each measures one row and says of what it cannot measure what to give."""
