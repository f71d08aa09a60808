"""The Python API for notebooks and programs, which `import tinyprof_bridge as tp` offers by name.

Silent, with exceptions: progress goes to a callback, errors are BadInput and RunFailed.

May import: everything but cli."""
