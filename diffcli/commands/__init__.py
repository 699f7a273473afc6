"""The command line: a file per command, their shared options, and the console."""
