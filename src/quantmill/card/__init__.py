"""A release's page: words in four languages, sections, a stranger's template in a sandbox."""
