"""A build on one machine: what it publishes and lets go as it runs, and when its tasks ran."""
