"""What was computed, on this machine: step keys, objects, records. remote/: the store that machines share; care/: what
`quantmill cache` does."""
