# Frozen into firmware of our own: what the port freezes by itself, and the device package.
for own in ("boards/manifest.py", "variants/manifest.py", "modules/manifest.py"):
    try:
        include("$(PORT_DIR)/" + own)  # noqa: F821 (names that manifests are run with)
        break
    except Exception as error:  # the port keeps it elsewhere, or has none; any other error is one
        if not str(error).endswith(own + "'"):
            raise
package("tinyprof", base_path="../device")  # noqa: F821
