"""The command line `tinyprof-bridge`: one file a verb or group of verbs.

Each declares its options and imports what it needs when it runs, so that help and errors come at once.

May import: everything else."""
