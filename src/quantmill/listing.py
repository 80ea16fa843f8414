"""The names of a release's files."""

LISTING, SUMS = "release.json", "SHA256SUMS"  # in a release's folder
LISTING_LIMIT = 10_000_000  # bytes of a listing that is read from elsewhere
