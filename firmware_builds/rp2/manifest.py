# What the port freezes, less what it takes from micropython-lib.
freeze("$(PORT_DIR)/modules")  # noqa: F821 (names that manifests are run with)
