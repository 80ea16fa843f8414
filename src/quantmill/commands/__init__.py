"""The command line, one module a command: of projects here, of single files in `files`."""
