"""A recipe built: its graph, one node run against the store, the doit adapter, the release folder and its tag."""
