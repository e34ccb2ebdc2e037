"""Networks, torch only. Each module names its source."""
