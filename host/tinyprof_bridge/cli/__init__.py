"""The command line `tinyprof-bridge`: one file a verb or group of verbs.

Each is thin, and imports its work when it runs.

May import: everything else."""
